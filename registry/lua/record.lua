-- Writes the results of checks of one connector in one shard: verdict, next due time, transition, counters.
-- Each pair is written only if it is in the schedule and its record is still the one the new one was computed from, and
-- only what is written is counted. A pair that was given another turn meanwhile keeps it, unless the new one is sooner.
-- KEYS: due, events, counters, tally, witnesses, then the verdicts, then the histories.
-- ARGV: cap of events, how many pairs, counters and tallies, how long tallies are kept (ms), then
--       the names of the counters, the first of which adds up milliseconds, then those of the tallies;
--       for each pair: tenant, head it had ('' none), record, ttl (ms), the due time it is held by (ms, 0: any),
--       due (ms), transition ('' none), entry into its history ('' none), and what it counts for: the numbers of up to
--       three counters and a tally (0 none), its tenant's slot there and its milliseconds, packed (registry/counting.py).
-- Returns for each pair 1 (written), 0 (its record has changed meanwhile) or -1 (it is not in the schedule).
local MARKS = '>BBBI2BI4'
local many, counters, tallies = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local written, counts, tallied, seen, witnesses = {}, {}, {}, {}, {}
for i = 0, counters do counts[i] = 0 end
for i = 0, tallies do tallied[i] = 0 end
local at = 6 + counters + tallies
for i = 1, many do
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
    if ARGV[at + 7] ~= '' then enter(KEYS[5 + many + i], ARGV[at + 7]) end
    local reason, bucket, turned, tally, slot, ms = struct.unpack(MARKS, ARGV[at + 8])
    counts[1] = counts[1] + ms
    counts[reason] = counts[reason] + 1
    counts[bucket] = counts[bucket] + 1
    counts[turned] = counts[turned] + 1
    if tally > 0 then
      tallied[tally] = tallied[tally] + 1
      if not seen[tally * 256 + slot] then
        seen[tally * 256 + slot] = true
        witnesses[#witnesses + 1] = ARGV[5 + counters + tally] .. '|' .. slot
      end
    end
    written[i] = 1
  else
    written[i] = 0
  end
  at = at + 9
end
for i = 1, counters do
  if counts[i] > 0 then redis.call('HINCRBY', KEYS[3], ARGV[5 + i], counts[i]) end
end
if #witnesses > 0 then
  for i = 1, tallies do
    if tallied[i] > 0 then redis.call('HINCRBY', KEYS[4], ARGV[5 + counters + i], tallied[i]) end
  end
  redis.call('SADD', KEYS[5], unpack(witnesses))
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
  redis.call('PEXPIRE', KEYS[5], ARGV[5])
end
return written
