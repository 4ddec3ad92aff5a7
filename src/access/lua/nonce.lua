-- Who writes the message that a user calls by this name: the first to ask; after it, if it gave up or is gone, the next.
-- Who asks again while it is its turn never heard that it was.
-- KEYS: HASH id, owner, until (milliseconds), ack
-- ARGV: the deadline of this call in microseconds, id for a new message, owner, lease in milliseconds, life in seconds
-- Returns: new, again (asked for before, nobody writes it now), busy or stored; the message's id; the ack. After the
-- deadline, when nobody waits for it any more, nothing is changed, and the answer is the error LATE with the time.
local key, owner = KEYS[1], ARGV[3]
local clock = redis.call('TIME')
local micros = clock[1] * 1000000 + clock[2]
if micros > tonumber(ARGV[1]) then return redis.error_reply(string.format('LATE %.0f', micros)) end
local there = redis.call('HMGET', key, 'id', 'until', 'ack', 'owner')
if there[3] then return { 'stored', there[1], there[3] } end
local now = math.floor(micros / 1000)
if there[2] and tonumber(there[2]) > now and there[4] ~= owner then return { 'busy', there[1], '' } end
local id = there[1] or ARGV[2]
redis.call('HSET', key, 'id', id, 'owner', owner, 'until', string.format('%.0f', now + ARGV[4]))
redis.call('EXPIRE', key, ARGV[5])
return { there[1] and 'again' or 'new', id, '' }
