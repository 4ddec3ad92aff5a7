-- Notes rooms to be counted, and takes those that are due: whoever takes a room counts it, and nobody else for a while.
-- KEYS: ZSET room → when it is due (Unix milliseconds)
-- ARGV: time until a room that was taken is due again in milliseconds, life in seconds, most, room...
-- Returns: the rooms that are due
local rooms = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 4, #ARGV do redis.call('ZADD', rooms, 'NX', now, ARGV[i]) end
local due = redis.call('ZRANGEBYSCORE', rooms, '-inf', now, 'LIMIT', 0, ARGV[3])
for _, room in ipairs(due) do redis.call('ZADD', rooms, now + ARGV[1], room) end
redis.call('EXPIRE', rooms, ARGV[2])
return due
