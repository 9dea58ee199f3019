-- Draws a fence for a check made on demand.   KEYS: fence
-- Returns {fence, now (ms)}.
local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[1]) or 0) + 1)
redis.call('SET', KEYS[1], string.format('%.0f', fence))
return {string.format('%.0f', fence), string.format('%.0f', math.floor(time[1] * 1000 + time[2] / 1000))}
