-- Takes a pair out of the schedule and leaves a tombstone, which refuses results still under way.
-- KEYS: verdict, due, configs, index, fence   ARGV: tenant, connector, revision, ttl of the tombstone (ms)
-- Returns 1, or 0 when a newer revision is there.
local known = redis.call('HGET', KEYS[3], ARGV[1])
if known and tonumber(string.match(known, '^%d+')) > tonumber(ARGV[3]) then return 0 end

redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])

local kept = ''
for name in string.gmatch(redis.call('GET', KEYS[4]) or '', '%S+') do
  if name ~= ARGV[2] then kept = kept .. name .. ' ' end
end
if kept == '' then redis.call('DEL', KEYS[4]) else redis.call('SET', KEYS[4], kept) end

local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[5]) or 0) + 1)
redis.call('SET', KEYS[5], string.format('%.0f', fence))
redis.call('SET', KEYS[1], ARGV[3] .. '.' .. string.format('%.0f', fence) .. '\n{"k":"g"}', 'PX', ARGV[4])
return 1
