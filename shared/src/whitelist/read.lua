-- Reads the head and every list as one moment.
-- KEYS: 1 head, 2 global, 3 scopes      ARGV: 1 key prefix of the lists of data types (same hash tag)
-- Answers {} when the whitelist is unknown, otherwise {version, change id, global ids, type, ids, type, ids, ...}
local head = redis.call('HMGET', KEYS[1], 'version', 'change_id')
if not head[1] or not head[2] then
  return {}
end
local answer = { head[1], head[2], redis.call('SMEMBERS', KEYS[2]) }
for _, name in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call('SMEMBERS', ARGV[1] .. name)
end
return answer
