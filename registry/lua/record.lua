-- Writes the results of checks of one connector in one shard: verdict, next due time, transition, counters.
-- Each pair is written only if it is in the schedule and its record is still the one the new one was computed from. A
-- pair that was given another turn meanwhile keeps it, unless the new one is sooner.
-- KEYS: due, events, counters, tally, witnesses, then the verdicts, then the histories.
-- ARGV: cap of events, how many pairs, counters and tallies, how long tallies are kept (ms), then
--       for each pair: tenant, head it had ('' none), record, ttl (ms), the due time it is held by (ms, 0: any),
--       due (ms), transition ('' none), entry into its history ('' none);
--       for each counter, then for each tally: name, increment; then the witnesses.
-- Returns for each pair 1 (written), 0 (its record has changed meanwhile) or -1 (it is not in the schedule).
local pairs, counters, tallies = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local written = {}
local at = 6
for i = 1, pairs do
  local key = KEYS[5 + i]
  local head = string.match(redis.call('GET', key) or '', '^{"rv":%d+,"fe":%d+') or ''
  local turn = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]))
  if not turn then
    written[i] = -1
  elseif head == ARGV[at + 1] then
    redis.call('SET', key, ARGV[at + 2], 'PX', ARGV[at + 3])
    local held = tonumber(ARGV[at + 4])
    if turn == held or held == 0 or turn > tonumber(ARGV[at + 5]) then
      redis.call('ZADD', KEYS[1], ARGV[at + 5], ARGV[at])
    end
    if ARGV[at + 6] ~= '' then
      redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'transition', ARGV[at + 6])
    end
    if ARGV[at + 7] ~= '' then enter(KEYS[5 + pairs + i], ARGV[at + 7]) end
    written[i] = 1
  else
    written[i] = 0
  end
  at = at + 8
end
for _ = 1, counters do
  redis.call('HINCRBY', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
if tallies > 0 then
  for _ = 1, tallies do
    redis.call('HINCRBY', KEYS[4], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  redis.call('SADD', KEYS[5], unpack(ARGV, at))
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
  redis.call('PEXPIRE', KEYS[5], ARGV[5])
end
return written
