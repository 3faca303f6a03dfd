-- Removes coverage that lies wholly below the log's start. One bounded step.
-- KEYS: 1 coverage
-- ARGV: 1 the log's start, 2 members that former steps left, 3 members read at most
-- Answers {read, removed}
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', ARGV[2], ARGV[3])
local removed = 0
for _, member in ipairs(page) do
  local known, interval = pcall(cjson.decode, member)
  if known and type(interval) == 'table' and type(interval['end']) == 'number' and interval['end'] <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], member)
    removed = removed + 1
  end
end
return { #page, removed }
