-- Declares a shard complete.   KEYS: walk, epoch   ARGV: the comparison's mark, now (ms)
-- Returns 1, or 0 when the shard is without that mark: it lost its data meanwhile, or another comparison began.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[2], 'NX')
return 1
