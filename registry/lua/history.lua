-- Enters a check into the history of its pair; part of record.lua. Both layouts are told in registry/history.py.
local FORMAT, SIZE, HEADER, ENTRY = 1, 761, '>BBBBI4I4I4I4', '>I4I4I4BBc6'
local HEADER_BYTES, LATENCY_BYTES, NO_LATENCY = 20, 96, string.rep('\0', 96)
local HOUR, HOURS, HOURS_AT, HOUR_BITS = 3600, 25, 212, 12
local DAY, DAYS, DAYS_AT, DAY_BITS = 86400, 31, 362, 18
local TURNS, TURNS_AT, TURN_BYTES, NO_TURN = 20, 641, 6, string.rep('\0', 6)
local KEPT_MS = 32 * DAY * 1000

-- Turns a ring from the place of `from` to that of `upto`, and adds to `fields` what credits a run to its places.
local function credit(key, fields, state, from, till, upto, size, places, offset, bits)
  local oldest, newest, bytes = math.floor(from / size), math.floor(upto / size), bits / 2
  if newest - oldest >= places then
    redis.call('SETRANGE', key, offset, string.rep('\0', places * bytes))
  else
    for place = oldest + 1, newest do
      redis.call('SETRANGE', key, offset + place % places * bytes, string.rep('\0', bytes))
    end
  end
  from = math.max(from, (newest - places + 1) * size)
  while from < till do
    local place, n = math.floor(from / size), #fields
    local stop = math.min(till, (place + 1) * size)
    fields[n + 1], fields[n + 2] = 'INCRBY', 'u' .. bits
    fields[n + 3], fields[n + 4] = offset * 8 + (place % places * 4 + state) * bits, stop - from
    from = stop
  end
end

-- Moves a run into the rings, which are then turned up to `upto`, where the next run begins.
local function settle(key, state, from, till, upto)
  local fields = {'OVERFLOW', 'SAT'}
  credit(key, fields, state, from, till, upto, HOUR, HOURS, HOURS_AT, HOUR_BITS)
  credit(key, fields, state, from, till, upto, DAY, DAYS, DAYS_AT, DAY_BITS)
  if #fields > 2 then redis.call('BITFIELD', key, unpack(fields)) end
end

local function counted(latency, bucket)
  local high, low = string.byte(latency, 2 * bucket - 1, 2 * bucket)
  local count = math.min(high * 256 + low + 1, 65535)
  local two = string.char(math.floor(count / 256), count % 256)
  return string.sub(latency, 1, 2 * bucket - 2) .. two .. string.sub(latency, 2 * bucket + 1)
end

local function enter(key, entry)
  local from, till, at, state, bucket, turned = struct.unpack(ENTRY, entry)
  local hot = redis.call('GETRANGE', key, 0, HEADER_BYTES + LATENCY_BYTES - 1)
  local today, before = string.sub(hot, HEADER_BYTES + 1), ''
  local format, turns, run, _, since, last, start, stop = 0
  if #hot == HEADER_BYTES + LATENCY_BYTES then
    format, turns, run, _, since, last, start, stop = struct.unpack(HEADER, hot)
  end
  if format ~= FORMAT or at < last - HOUR then  -- none, unreadable, or of a time that was taken back
    redis.call('SET', key, string.rep('\0', SIZE), 'PX', KEPT_MS)
    today, turns, run, since, last, start, stop = NO_LATENCY, 0, state, at, at, at, at
  end
  from, at = math.max(from, last), math.max(at, last)
  if from < till then
    if run ~= state or from ~= stop then
      settle(key, run, start, stop, from)
      run, start = state, from
    end
    stop = till
  end
  local days = math.floor(at / DAY) - math.floor(last / DAY)
  if days > 0 then
    today, before = NO_LATENCY, days == 1 and today or NO_LATENCY
    redis.call('PEXPIRE', key, KEPT_MS)
  end
  if bucket > 0 then today = counted(today, bucket) end
  if turned ~= NO_TURN then
    redis.call('SETRANGE', key, TURNS_AT + turns * TURN_BYTES, turned)
    turns = (turns + 1) % TURNS
  end
  local header = struct.pack(HEADER, FORMAT, turns, run, 0, since, at, start, stop)
  redis.call('SETRANGE', key, 0, header .. today .. before)
end

