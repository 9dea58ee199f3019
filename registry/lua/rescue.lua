-- Redis' clock was set back: brings pairs whose turn now lies too far ahead into the coming interval, evenly.
-- KEYS: due   ARGV: interval (ms), most
-- Returns how many were moved.
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
for i, tenant in ipairs(rows) do
  redis.call('ZADD', KEYS[1], now + math.floor(ARGV[1] * i / #rows), tenant)
end
return #rows
