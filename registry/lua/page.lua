-- Everything of one tenant.   KEYS: epoch, index, how its records' keys are spelled for the connector ''
-- Returns {epoch, index, record, record, …}, a record for each connector in the order of the index; false: there is none.
local found = {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
local before, after = string.match(KEYS[3], '^(.-:v:)(.*)$')
for name in string.gmatch(found[2] or '', '%S+') do
  found[#found + 1] = redis.call('GET', before .. name .. after)
end
return found
