-- Gives held pairs of one connector in one shard another turn.
-- KEYS: due   ARGV: for each pair: tenant, the due time (ms) it is held by, the new one (ms)
-- A pair with another due time is held no more: its lease ended and others claimed it, it was checked or changed, or it
-- is gone. It keeps the turn it has. Returns how many were given another.
local given = 0
for at = 1, #ARGV, 3 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or 0) == tonumber(ARGV[at + 1]) then
    redis.call('ZADD', KEYS[1], 'XX', ARGV[at + 2], ARGV[at])
    given = given + 1
  end
end
return given
