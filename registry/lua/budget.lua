-- Takes checks from the budgets of pairs: each pair takes one from every budget it has, or from none.
-- A budget admits one check every `spacing`, and up to `tolerance` ahead of that where it was saved up before. `spent`
-- is the moment at which everything would be saved up again, `tail` the next place for one that is put off.
-- KEYS: since, then the budgets
-- ARGV: on demand (1: nobody waits for a place), horizon (ms), how many budgets, for each: spacing, tolerance (ms);
--       then for each pair: how many budgets, their numbers
-- Returns for each pair 0 (it may begin), or when to ask again (ms).
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local since = tonumber(redis.call('GET', KEYS[1]) or now + 1)
if since > now then
  since = now
  redis.call('SET', KEYS[1], string.format('%.0f', now))
end

local budgets, at = {}, 4
for i = 1, tonumber(ARGV[3]) do
  local one = {spacing = tonumber(ARGV[at]), tolerance = tonumber(ARGV[at + 1])}
  local row = redis.call('HMGET', KEYS[i + 1], 'spent', 'tail')
  -- What is not there was used up when Redis began to count: it may have lost that it was.
  one.spent = tonumber(row[1] or since + one.tolerance + one.spacing)
  one.spent = math.min(one.spent, now + one.tolerance + one.spacing)  -- more can only be after a change of the clock
  one.tail = tonumber(row[2] or 0)
  budgets[i] = one
  at = at + 2
end

local answers = {}
while ARGV[at] do
  local mine, free = {}, 0
  for i = 1, tonumber(ARGV[at]) do
    local one = budgets[tonumber(ARGV[at + i])]
    mine[i] = one
    free = math.max(free, one.spent - one.tolerance)
  end
  at = at + 1 + #mine
  local answer = free
  if free <= now then
    answer = 0
    for _, one in ipairs(mine) do
      one.spent = math.max(one.spent, now) + one.spacing
      one.changed = true
    end
  elseif ARGV[1] == '0' then
    for _, one in ipairs(mine) do
      local first = one.spent - one.tolerance
      if first > now then
        if one.tail < first or one.tail > now + ARGV[2] then one.tail = first end
        answer = math.max(answer, one.tail)
        one.tail = one.tail + one.spacing
        one.changed = true
      end
    end
  end
  answers[#answers + 1] = string.format('%.0f', answer)
end

for i, one in ipairs(budgets) do
  if one.changed then
    local spent, tail = string.format('%.0f', one.spent), string.format('%.0f', one.tail)
    redis.call('HSET', KEYS[i + 1], 'spent', spent, 'tail', tail)
    redis.call('PEXPIRE', KEYS[i + 1], string.format('%.0f', math.max(one.spent, one.tail, now) - now + 1000))
  end
end
return answers
