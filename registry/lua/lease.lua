-- Takes or extends a lease.   KEYS: lease   ARGV: owner, ttl (ms)
-- Returns the fence (it grows with every change of owner), or 0 when somebody else holds the lease.
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until')
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local fence = tonumber(held[2] or 0)
if held[1] ~= ARGV[1] then
  if held[3] and tonumber(held[3]) > now then return 0 end
  fence = fence + 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence, 'until', string.format('%.0f', now + ARGV[2]))
return fence
