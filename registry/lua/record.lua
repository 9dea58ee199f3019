-- Writes the results of checks of one connector in one shard: verdict, next due time, transition, counters.
-- Each pair is written only if its record is still the one the new record was computed from.
-- KEYS: due, events, counters, verdict, verdict, …
-- ARGV: cap of events, pairs, then for each pair: tenant, head it had ('' none), record, ttl (ms), due (ms),
--       transition ('' none); then counter, increment, counter, increment, …
-- Returns for each pair 1 (written) or 0 (its record has changed meanwhile).
local written = {}
local pairs = tonumber(ARGV[2])
for i = 1, pairs do
  local a = 3 + (i - 1) * 6
  local key = KEYS[3 + i]
  local head = string.match(redis.call('GET', key) or '', '^[^\n]*')
  if head == ARGV[a + 1] then
    redis.call('SET', key, ARGV[a + 2], 'PX', ARGV[a + 3])
    redis.call('ZADD', KEYS[1], 'XX', ARGV[a + 4], ARGV[a])
    if ARGV[a + 5] ~= '' then
      redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'transition', ARGV[a + 5])
    end
    written[i] = 1
  else
    written[i] = 0
  end
end
for i = 3 + pairs * 6, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1])
end
return written
