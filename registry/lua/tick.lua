-- Begins a tick, unless the last of its kind began less than a while ago; one in the future is of a clock set back.
-- KEYS: ticks   ARGV: kind, while (ms)
-- Returns 1, or 0 when it is to be skipped.
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if last <= now and now - last < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
return 1
