-- Who writes the message that a user calls by this name: the first to ask; after it, if it gave up or is gone, the next.
-- KEYS: HASH id, owner, until (milliseconds), ack
-- ARGV: id for a new message, owner, lease in milliseconds, life in seconds
-- Returns: new, again (asked for before, nobody writes it now), busy or stored; the message's id; the ack
local key = KEYS[1]
local there = redis.call('HMGET', key, 'id', 'until', 'ack')
if there[3] then return { 'stored', there[1], there[3] } end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if there[2] and tonumber(there[2]) > now then return { 'busy', there[1], '' } end
local id = there[1] or ARGV[1]
redis.call('HSET', key, 'id', id, 'owner', ARGV[2], 'until', now + ARGV[3])
redis.call('EXPIRE', key, ARGV[4])
return { there[1] and 'again' or 'new', id, '' }
