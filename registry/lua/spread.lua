-- After a stop: brings what is due into the coming milliseconds, at random, instead of all at once.
-- KEYS: due   ARGV: over (ms), most
-- Returns how many were moved.
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
math.randomseed(time[2])
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, tenant in ipairs(rows) do
  redis.call('ZADD', KEYS[1], now + math.random(ARGV[1]), tenant)
end
return #rows
