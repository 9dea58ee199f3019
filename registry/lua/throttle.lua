-- Takes `cost` from an allowance that fills up again by one every `spacing`, as the generic cell rate algorithm does:
-- what is kept is the moment at which it would be full.
-- KEYS: the allowance
-- ARGV: cost, spacing (ms), most
-- Returns 0, or in how many ms to come again; then nothing was taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local cost, spacing, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
full = math.min(math.max(full, now), now + most * spacing)  -- more can only be after a change of the clock
local after = full + cost * spacing
local wait = after - most * spacing - now
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', after), 'PX', math.ceil(after - now))
return 0
