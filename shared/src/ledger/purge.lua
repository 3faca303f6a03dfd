-- Removes ranges that were last processed before a time. One bounded step.
-- KEYS: 1 ranges of one type, 2 the partition's indexed_from hash
-- ARGV: 1 data type, 2 remove what was last processed before this (ms), 3 start to go on from, 4 members of that start
--       to skip, 5 members read at most, 6 members removed at most
-- Answers {read, removed, done (0 or 1), next start, next skip}
local MAX_ARGUMENTS = 1000 -- of one call; Lua's stack has room for some 8,000
local MAX = tonumber(ARGV[5])
-- Redis serves nobody else meanwhile, so a number is looked for in a member's text: to decode all of it takes twice as
-- long, and so does a pattern with the name. In quoted texts no name stands like this: quotes are escaped there.
local function number(member, name)
  local _, at = string.find(member, name, 1, true)
  return at and tonumber(string.match(member, '^(%-?%d+)[,}]', at + 1))
end
local before, max_deletes = tonumber(ARGV[2]), tonumber(ARGV[6])
local page = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', ARGV[4], MAX)
local read, indexed_from, old = 0, nil, {}
local next_start, next_skip = ARGV[3], tonumber(ARGV[4])
for at = 1, #page, 2 do
  local last_processed, stop = number(page[at], '"last_processed":'), number(page[at], '"end":')
  local remove = last_processed and stop and last_processed < before
  if remove and #old == max_deletes then
    break
  end
  read = read + 1
  if remove then
    old[#old + 1] = page[at]
    indexed_from = math.max(indexed_from or 0, stop)
  end
  -- A removed member is not there to be skipped any more.
  if page[at + 1] == next_start then
    next_skip = next_skip + (remove and 0 or 1)
  else
    next_start, next_skip = page[at + 1], remove and 0 or 1
  end
end
if indexed_from then
  local current = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
  if indexed_from > current then
    redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', indexed_from))
  end
end
for from = 1, #old, MAX_ARGUMENTS do
  redis.call('ZREM', KEYS[1], unpack(old, from, math.min(from + MAX_ARGUMENTS - 1, #old)))
end
local done = read * 2 == #page and read < MAX
return { read, #old, done and 1 or 0, next_start, next_skip }
