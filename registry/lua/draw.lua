-- Draws a fence for a check made on demand.   KEYS: fence, due   ARGV: tenant
-- Returns {fence, now (ms), when the pair is due (ms; '0': never)}.
local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[1]) or 0) + 1)
redis.call('SET', KEYS[1], string.format('%.0f', fence))
local due = redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0'
return {string.format('%.0f', fence), string.format('%.0f', math.floor(time[1] * 1000 + time[2] / 1000)), due}
