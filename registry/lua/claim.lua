-- Takes what is due of one connector in one shard, exclusively for a lease.
-- KEYS: due, fence   ARGV: most, lease (ms)
-- Returns {fence, now (ms), tenant, due (ms), tenant, due (ms), …}; {} when nothing is due.
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
if #rows == 0 then return {} end

-- A fence is the time in microseconds, or one more than the last: it grows even when the clock jumps back,
-- and starts beyond the old ones when the counter was lost with Redis' data.
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
redis.call('SET', KEYS[2], string.format('%.0f', fence))

local moved = {}
for i = 1, #rows, 2 do
  moved[i], moved[i + 1] = now + ARGV[2], rows[i]
end
redis.call('ZADD', KEYS[1], unpack(moved))
table.insert(rows, 1, string.format('%.0f', now))
table.insert(rows, 1, string.format('%.0f', fence))
return rows
