-- Says where a topic stands; the first to ask begins an epoch.
-- KEYS: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING)
-- ARGV: an epoch in case one begins, seconds to live
-- Returns: epoch, end of the part without holes, time of its newest message, last offset taken, notes of what is taken and
--          not published
local position, taken = KEYS[1], KEYS[3]
begin(position, KEYS[2], taken, KEYS[4], ARGV[1])
if redis.call('TTL', position) < 0 then redis.call('EXPIRE', position, ARGV[2]) end
local stands = redis.call('HMGET', position, 'epoch', 'published', 'time', 'offset')
local notes = {}
if tonumber(stands[4] or '0') > tonumber(stands[2] or '0') then notes = redis.call('HVALS', taken) end
return { stands[1], tonumber(stands[2] or '0'), stands[3], tonumber(stands[4] or '0'), notes }
