-- Puts one member that is never merged with others, in place of the former one with the same first bytes.
-- KEYS: 1 the ZSET      ARGV: 1 start, 2 first bytes, 3 member
local kind = redis.call('TYPE', KEYS[1]).ok
if (kind ~= 'zset' and kind ~= 'none') or string.sub(ARGV[3], 1, #ARGV[2]) ~= ARGV[2] then
  return redis.error_reply('ERR the ledger member cannot be put')
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])) do
  if member ~= ARGV[3] and string.sub(member, 1, #ARGV[2]) == ARGV[2] then
    redis.call('ZREM', KEYS[1], member)
  end
end
return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3])
