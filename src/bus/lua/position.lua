-- Says where topics stand; the first to ask begins an epoch.
-- KEYS: of each topic: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING)
-- ARGV: an epoch in case one begins, seconds to live
-- Returns: of each topic: epoch, end of the part without holes, time of its newest message, last offset taken, notes of what
--          is taken and not published
local found = {}
for i = 1, #KEYS, 4 do
  local position, taken = KEYS[i], KEYS[i + 2]
  begin(position, KEYS[i + 1], taken, KEYS[i + 3], ARGV[1])
  if redis.call('TTL', position) < 0 then redis.call('EXPIRE', position, ARGV[2]) end
  local stands = redis.call('HMGET', position, 'epoch', 'published', 'time', 'offset')
  local notes = {}
  if tonumber(stands[4] or '0') > tonumber(stands[2] or '0') then notes = redis.call('HVALS', taken) end
  found[#found + 1] = { stands[1], tonumber(stands[2] or '0'), stands[3], tonumber(stands[4] or '0'), notes }
end
return found
