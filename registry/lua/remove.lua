-- Takes a pair with its history out, and leaves a tombstone, which refuses results still under way.
-- KEYS: verdict, due, configs, index, fence, changes, events, history, tenants
-- ARGV: tenant, connector, revision, ttl of the tombstone (ms), who removes it, cap of changes, cap of events
-- Returns 1, or 0 when a newer revision is there, or was removed.
local known = redis.call('HGET', KEYS[3], ARGV[1])
if known and tonumber(string.match(known, '^%d+') or 0) > tonumber(ARGV[3]) then return 0 end
local old = redis.call('GET', KEYS[1]) or ''
local gone = string.match(old, '^{"rv":(%d+),"fe":%d+,"k":"g"}')
if gone and tonumber(gone) > tonumber(ARGV[3]) then return 0 end

redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[8])
redis.call('ZREM', KEYS[2], ARGV[1])

local kept = ''
for name in string.gmatch(redis.call('GET', KEYS[4]) or '', '%S+') do
  if name ~= ARGV[2] then kept = kept .. name .. ' ' end
end
if kept == '' then
  redis.call('DEL', KEYS[4])
  redis.call('ZREM', KEYS[9], ARGV[1])
else
  redis.call('SET', KEYS[4], kept)
end

local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[5]) or 0) + 1)
redis.call('SET', KEYS[5], string.format('%.0f', fence))

local body = old ~= '' and cjson.decode(old) or {}
local was = body.v and {body.s or 'healthy', body.r or 'ok'} or {'unknown', 'not_checked'}
if body.v or known then  -- what was told of an earlier verdict ends too
  local event = '{"connector":"%s","tenant":"%s","from":["%s","%s"],"to":["unknown","not_configured"],' ..
    '"fault":"none","at_ms":%.0f,"version":%.0f}'
  event = string.format(event, ARGV[2], ARGV[1], was[1], was[2], time[1] * 1000 + time[2] / 1000, fence)
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[7], '*', 'transition', event)
end
redis.call('SET', KEYS[1], string.format('{"rv":%s,"fe":%.0f,"k":"g"}', ARGV[3], fence), 'PX', ARGV[4])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*',
  'connector', ARGV[2], 'tenant', ARGV[1], 'revision', ARGV[3], 'by', ARGV[5])
return 1
