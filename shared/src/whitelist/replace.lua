-- Puts every list in place at once: to begin with, or to heal a Redis that was emptied or restored.
-- KEYS: 1 head, 2 global, 3 scopes
-- ARGV: 1 expectation ('missing', 'version' or 'missing_or_version'), 2 expected version, 3 new version, 4 change id,
--       5 channel, 6 notice, 7 key prefix of the lists of data types (same hash tag),
--       then for each list: data type ('' for the global list), number of ids, the ids
-- Answers {'applied', version, receivers or -1} | {'conflict', current version} | {'unknown'}
local CHUNK = 4000 -- unpack() has a limit of about 8,000 values

local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
local wrong = redis.error_reply('ERR a whitelist key holds the wrong kind of value')
if not (is(KEYS[1], 'hash') and is(KEYS[2], 'set') and is(KEYS[3], 'set')) then
  return wrong
end
local lists = {}
local at = 8
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  if not count or count < 0 or at + 1 + count > #ARGV then
    return redis.error_reply('ERR the number of ids is wrong')
  end
  local key = ARGV[at] == '' and KEYS[2] or ARGV[7] .. ARGV[at]
  if not is(key, 'set') then
    return wrong
  end
  lists[#lists + 1] = { name = ARGV[at], key = key, first = at + 2, last = at + 1 + count }
  at = at + 2 + count
end
local head = redis.call('HMGET', KEYS[1], 'version', 'change_id')
if head[1] and head[2] then
  if head[1] == ARGV[3] and head[2] == ARGV[4] then
    return { 'applied', head[1], 0 } -- asked again after a lost answer
  end
  if ARGV[1] == 'missing' or head[1] ~= ARGV[2] then
    return { 'conflict', head[1] }
  end
elseif ARGV[1] == 'version' then
  return { 'unknown' }
end

redis.call('HSET', KEYS[1], 'version', ARGV[3], 'change_id', ARGV[4])
for _, name in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  redis.call('DEL', ARGV[7] .. name)
end
redis.call('DEL', KEYS[2], KEYS[3])
for _, list in ipairs(lists) do
  redis.call('DEL', list.key) -- left over by a half-restored copy
  for from = list.first, list.last, CHUNK do
    redis.call('SADD', list.key, unpack(ARGV, from, math.min(from + CHUNK - 1, list.last)))
  end
  if list.name ~= '' and list.first <= list.last then
    redis.call('SADD', KEYS[3], list.name)
  end
end
local receivers = redis.pcall('PUBLISH', ARGV[5], ARGV[6])
return { 'applied', ARGV[3], type(receivers) == 'number' and receivers or -1 }
