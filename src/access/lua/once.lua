-- Who tells of a decision that all instances were told: the first to ask; after it, if it is gone, the next.
-- KEYS: HASH last (what was done last), owner, until (milliseconds)
-- ARGV: what, owner, lease in milliseconds, life in seconds
-- Returns: yours, done (somebody did it, and nothing else since) or busy
local key = KEYS[1]
local there = redis.call('HMGET', key, 'last', 'until')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if there[2] and tonumber(there[2]) > now then return 'busy' end
if there[1] == ARGV[1] then return 'done' end
redis.call('HSET', key, 'owner', ARGV[2], 'until', now + ARGV[3])
redis.call('EXPIRE', key, ARGV[4])
return 'yours'
