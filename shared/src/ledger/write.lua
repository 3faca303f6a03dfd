-- Writes one partition's ranges and coverage. Values are absolute: the same call again changes nothing.
-- KEYS: 1 coverage, 2 indexed_from, 3... ranges, one key per data type, all with the partition's hash tag
-- ARGV: 1 JSON {"coverage_head": first bytes of the live members of this topic id,
--               "coverage": [{"start", "end", "first_processed", "last_processed"}, ...],
--               "ranges": [{"key": index in KEYS, "data_type", "start", "head": first bytes of its segment's members,
--                           "member"}, ...]}
-- Offsets and times are below 2^53, so a Lua number holds them exactly; '%.0f' because tostring() would round.
local PAGE = 64
local MAX_PASSED = 2048 -- members of other kinds passed over on the way down; see below

local update = cjson.decode(ARGV[1])
for at, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= (at == 2 and 'hash' or 'zset') and kind ~= 'none' then
    return redis.error_reply('ERR a ledger key holds the wrong kind of value')
  end
end
local function number(value)
  return string.format('%.0f', value)
end
local function begins(member, head)
  return string.sub(member, 1, #head) == head
end
for _, range in ipairs(update.ranges) do
  if not KEYS[range.key] or range.key < 3 or not range.start or not range.data_type
    or not begins(range.member, range.head) then
    return redis.error_reply('ERR a range is malformed')
  end
end

-- A segment's member keeps its score while it grows, so the former one is among those of equal score. Runs that
-- began at one position after crashes are there too, and stay.
for _, range in ipairs(update.ranges) do
  local key, start, present = KEYS[range.key], number(range.start), false
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, start, start)) do
    if member == range.member then
      present = true
    elseif begins(member, range.head) then
      redis.call('ZREM', key, member)
    end
  end
  if not present then
    redis.call('ZADD', key, start, range.member)
    -- So a purge finds the ranges of a type that is in no catalog any more.
    redis.call('HSETNX', KEYS[2], range.data_type, '0')
  end
end

-- Live members of one topic id are disjoint and not adjacent, so of those that begin at or below a start only the
-- nearest can reach it. Should so many other members lie between that the search gives up, two members stay apart
-- that could be one: readers unite them, so no more and no less is claimed.
local head = update.coverage_head
local function unite(start, stop, first, last)
  local key, touching = KEYS[1], {}
  local function take(member)
    local known, found = pcall(cjson.decode, member)
    if not known or type(found['end']) ~= 'number' then
      return nil
    end
    if found['end'] >= start then
      touching[#touching + 1] = member
      start, stop = math.min(start, found.start), math.max(stop, found['end'])
      first, last = math.min(first, found.first_processed), math.max(last, found.last_processed)
    end
    return found
  end
  local asked_start, passed, done = start, 0, false
  while not done and passed < MAX_PASSED do
    local page = redis.call('ZREVRANGEBYSCORE', key, number(asked_start), '-inf', 'LIMIT', passed, PAGE)
    for _, member in ipairs(page) do
      if begins(member, head) then
        local found = take(member)
        if found and found.start < asked_start then
          done = true
          break
        end
      end
    end
    passed, done = passed + #page, done or #page < PAGE
  end
  local from, offset = asked_start, 0
  while true do
    local page = redis.call('ZRANGEBYSCORE', key, '(' .. number(from), number(stop), 'LIMIT', offset, PAGE)
    for _, member in ipairs(page) do
      if begins(member, head) then
        take(member)
      end
    end
    if #page < PAGE then
      break
    end
    offset = offset + #page
  end
  local member = string.format('%s"start":%s,"end":%s,"first_processed":%s,"last_processed":%s}',
    head, number(start), number(stop), number(first), number(last))
  if #touching == 1 and touching[1] == member then
    return
  end
  for _, former in ipairs(touching) do
    redis.call('ZREM', key, former)
  end
  redis.call('ZADD', key, number(start), member)
end
for _, interval in ipairs(update.coverage) do
  unite(interval.start, interval['end'], interval.first_processed, interval.last_processed)
end
return 1
