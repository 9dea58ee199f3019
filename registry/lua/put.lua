-- Enters or changes a pair in the schedule.
-- KEYS: verdict, due, configs, index, fence, changes, events, tenants
-- ARGV: tenant, connector, revision, configuration, reset (1: the old verdict is void), due (ms, 0: now), ttl (ms),
--       who changes it ('' to tell nobody), cap of changes, cap of events, the revision that reset was judged against
--       ('' any; over another one the old verdict is void)
-- Returns 1, or 0 when this revision or a newer one is already there, or a newer one was removed. Of a pair whose turn
-- was lost (who is claimed has one) this revision is entered again, by nothing but a turn.
local known = redis.call('HGET', KEYS[3], ARGV[1])
local over = known and string.match(known, '^%d+') or '0'  -- what cannot be read is as good as nothing
if known and tonumber(over) > tonumber(ARGV[3]) then return 0 end
local turn = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or -1)
local same = known and tonumber(over) == tonumber(ARGV[3])
if same and turn >= 0 then return 0 end
local old = redis.call('GET', KEYS[1]) or ''
local gone = string.match(old, '^{"rv":(%d+),"fe":%d+,"k":"g"}')
if gone and tonumber(gone) > tonumber(ARGV[3]) then return 0 end

local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local due = tonumber(ARGV[6])
if due == 0 then due = now end
if due == turn then due = due - 1 end  -- whoever holds it is to see that
redis.call('ZADD', KEYS[2], due, ARGV[1])
if same then return 1 end

redis.call('HSET', KEYS[3], ARGV[1], ARGV[3] .. '\n' .. ARGV[4])
local names = redis.call('GET', KEYS[4]) or ''
if not string.find(' ' .. names, ' ' .. ARGV[2] .. ' ', 1, true) then
  redis.call('SET', KEYS[4], names .. ARGV[2] .. ' ')
  if string.sub(ARGV[1], 1, 1) ~= '*' then redis.call('ZADD', KEYS[8], 0, ARGV[1]) end
end

if ARGV[5] == '1' or (ARGV[11] ~= '' and ARGV[11] ~= over) then
  local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[5]) or 0) + 1)
  redis.call('SET', KEYS[5], string.format('%.0f', fence))
  redis.call('SET', KEYS[1], string.format('{"rv":%s,"fe":%.0f,"k":"w"}', ARGV[3], fence), 'PX', ARGV[7])
  local body = old ~= '' and cjson.decode(old) or {}
  if body.v then
    local event = '{"connector":"%s","tenant":"%s","from":["%s","%s"],"to":["unknown","not_checked"],' ..
      '"fault":"platform","at_ms":%.0f,"version":%.0f}'
    event = string.format(event, ARGV[2], ARGV[1], body.s or 'healthy', body.r or 'ok', now, fence)
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[10], '*', 'transition', event)
  end
end
if ARGV[8] ~= '' then
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[9], '*',
    'connector', ARGV[2], 'tenant', ARGV[1], 'revision', ARGV[3], 'by', ARGV[8])
end
return 1
