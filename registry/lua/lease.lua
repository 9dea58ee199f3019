-- Takes or extends a lease.   KEYS: lease   ARGV: owner, ttl (ms)
-- Returns the fence, or 0 when somebody else holds the lease. It grows with every change of owner, and is a time (Unix
-- microseconds), so that it begins beyond all earlier ones when Redis has lost its data.
-- One that was extended in the future is of a clock set back since, and would last for as long.
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until', 'at')
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local fence = tonumber(held[2] or 0)
if held[1] ~= ARGV[1] then
  if tonumber(held[3] or 0) > now and tonumber(held[4] or 0) <= now + 10000 then return 0 end
  fence = math.max(time[1] * 1000000 + time[2], fence + 1)
end
local function text(number) return string.format('%.0f', number) end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', text(fence), 'until', text(now + ARGV[2]), 'at', text(now))
return fence
