-- Takes or extends a lease.   KEYS: lease   ARGV: owner, ttl (ms)
-- Returns the fence (it grows with every change of owner), or 0 when somebody else holds the lease.
-- One that was extended in the future is of a clock set back since, and would last for as long.
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until', 'at')
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local fence = tonumber(held[2] or 0)
if held[1] ~= ARGV[1] then
  if tonumber(held[3] or 0) > now and tonumber(held[4] or 0) <= now + 10000 then return 0 end
  fence = fence + 1
end
local ends = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence, 'until', ends, 'at', string.format('%.0f', now))
return fence
