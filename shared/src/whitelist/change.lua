-- Changes one list, conditional on the version. Redis does not roll a script back, so everything that can fail is
-- checked before the first write; only publishing comes after it, and its failure is no fault: a notice is a hint.
-- KEYS: 1 head, 2 the list, 3 scopes
-- ARGV: 1 expected version, 2 new version, 3 change id, 4 channel, 5 notice, 6 data type ('' for the global list),
--       7 'update' or 'replace', 8 number of added ids, then the added and the removed ids
-- Answers {'applied', version, receivers or -1} | {'conflict', current version} | {'unknown'}
local CHUNK = 4000 -- unpack() has a limit of about 8,000 values

local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
if not (is(KEYS[1], 'hash') and is(KEYS[2], 'set') and is(KEYS[3], 'set')) then
  return redis.error_reply('ERR a whitelist key holds the wrong kind of value')
end
local added = tonumber(ARGV[8])
if not added or added < 0 or 8 + added > #ARGV then
  return redis.error_reply('ERR the number of added ids is wrong')
end
local head = redis.call('HMGET', KEYS[1], 'version', 'change_id')
if not head[1] or not head[2] then
  return { 'unknown' }
end
if head[1] == ARGV[2] and head[2] == ARGV[3] then
  return { 'applied', head[1], 0 } -- asked again after a lost answer
end
if head[1] ~= ARGV[1] then
  return { 'conflict', head[1] }
end

redis.call('HSET', KEYS[1], 'version', ARGV[2], 'change_id', ARGV[3])
if ARGV[7] == 'replace' then
  redis.call('DEL', KEYS[2])
end
local function each(command, first, last)
  for from = first, last, CHUNK do
    redis.call(command, KEYS[2], unpack(ARGV, from, math.min(from + CHUNK - 1, last)))
  end
end
each('SADD', 9, 8 + added)
each('SREM', 9 + added, #ARGV)
if ARGV[6] ~= '' then
  local command = redis.call('EXISTS', KEYS[2]) == 1 and 'SADD' or 'SREM'
  redis.call(command, KEYS[3], ARGV[6])
end
local receivers = redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return { 'applied', ARGV[2], type(receivers) == 'number' and receivers or -1 }
