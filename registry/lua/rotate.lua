-- The secrets behind a pair's configuration were replaced: its verdict is void, it is due now, everybody is told.
-- KEYS: verdict, due, configs, fence, changes, events
-- ARGV: tenant, connector, ttl (ms), who rotates, cap of changes, cap of events
-- Returns 1, or 0 when the pair is not in the schedule.
redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[5], '*', 'connector', ARGV[2], 'tenant', ARGV[1], 'by', ARGV[4])
local known = redis.call('HGET', KEYS[3], ARGV[1])
if not known then return 0 end

local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[4]) or 0) + 1)
redis.call('SET', KEYS[4], string.format('%.0f', fence))

local old = redis.call('GET', KEYS[1]) or ''
local body = old ~= '' and cjson.decode(old) or {}
if body.v then
  local event = '{"connector":"%s","tenant":"%s","from":["%s","%s"],"to":["unknown","not_checked"],' ..
    '"fault":"platform","at_ms":%.0f,"version":%.0f}'
  event = string.format(event, ARGV[2], ARGV[1], body.s or 'healthy', body.r or 'ok', now, fence)
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*', 'transition', event)
end
local waiting = string.format('{"rv":%s,"fe":%.0f,"k":"w"}', string.match(known, '^%d+') or '0', fence)
redis.call('SET', KEYS[1], waiting, 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
