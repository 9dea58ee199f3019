-- Enters checks into the histories of their pairs, each only if its verdict is the one that is in the cache.
-- KEYS: verdict, history, verdict, history, …
-- ARGV: for each pair how its record begins, and the entry. Both layouts are told in registry/history.py.
local FORMAT, SIZE, HEADER = 1, 761, '>BBHI4I4I8'
local HOUR, HOURS, HOURS_AT, HOUR_BITS = 3600, 25, 20, 12
local DAY, DAYS, DAYS_AT, DAY_BITS = 86400, 31, 170, 18
local STATES, LATENCY_AT, LATENCY_BYTES = 4, 449, 96
local TURNS, TURNS_AT, TURN_BYTES, NO_TURN = 20, 641, 6, string.rep('\0', 6)
local KEPT_MS = 32 * DAY * 1000

-- Empties the places of a ring that come after `last`, up to `at`.
local function turn(key, last, at, size, places, offset, bytes)
  last, at = math.floor(last / size), math.floor(at / size)
  for place = math.max(last, at - places) + 1, at do
    redis.call('SETRANGE', key, offset + place % places * bytes, string.rep('\0', bytes))
  end
  return last < at
end

-- Adds the seconds from `from` to `till` to the places of a ring that they lie in.
local function credit(fields, state, from, till, at, size, places, offset, bits)
  from = math.max(from, (math.floor(at / size) - places + 1) * size)
  while from < till do
    local place = math.floor(from / size)
    local stop = math.min(till, (place + 1) * size)
    local n = #fields
    fields[n + 1], fields[n + 2] = 'INCRBY', 'u' .. bits
    fields[n + 3], fields[n + 4] = offset * 8 + (place % places * STATES + state) * bits, stop - from
    from = stop
  end
end

local function enter(key, entry)
  local fence, from, till, at, state, bucket, turned = struct.unpack('>I8I4I4I4BBc6', entry)
  local header = redis.call('GETRANGE', key, 0, HOURS_AT - 1)
  local format, turns, _, since, last, newest = 0, 0, 0, at, at, 0
  if #header == HOURS_AT then format, turns, _, since, last, newest = struct.unpack(HEADER, header) end
  if format ~= FORMAT or at < last - HOUR then  -- none, unreadable, or of a time that was taken back
    redis.call('SET', key, string.rep('\0', SIZE), 'PX', KEPT_MS)
    turns, since, last = 0, at, at
  elseif fence <= newest then
    return
  end
  from, at = math.max(from, last), math.max(at, last)
  if turn(key, last, at, HOUR, HOURS, HOURS_AT, STATES * HOUR_BITS / 8) then
    turn(key, last, at, DAY, DAYS, DAYS_AT, STATES * DAY_BITS / 8)
    turn(key, last, at, DAY, 2, LATENCY_AT, LATENCY_BYTES)
    redis.call('PEXPIRE', key, KEPT_MS)
  end
  local fields = {'OVERFLOW', 'SAT'}
  credit(fields, state, from, till, at, HOUR, HOURS, HOURS_AT, HOUR_BITS)
  credit(fields, state, from, till, at, DAY, DAYS, DAYS_AT, DAY_BITS)
  if bucket > 0 then
    local n = #fields
    fields[n + 1], fields[n + 2], fields[n + 4] = 'INCRBY', 'u16', 1
    fields[n + 3] = (LATENCY_AT + math.floor(at / DAY) % 2 * LATENCY_BYTES) * 8 + (bucket - 1) * 16
  end
  if #fields > 2 then redis.call('BITFIELD', key, unpack(fields)) end
  if turned ~= NO_TURN then
    redis.call('SETRANGE', key, TURNS_AT + turns * TURN_BYTES, turned)
    turns = (turns + 1) % TURNS
  end
  redis.call('SETRANGE', key, 0, struct.pack(HEADER, FORMAT, turns, 0, since, at, fence))
end

for i = 1, #KEYS, 2 do
  if redis.call('GETRANGE', KEYS[i], 0, #ARGV[i] - 1) == ARGV[i] then enter(KEYS[i + 1], ARGV[i + 1]) end
end
