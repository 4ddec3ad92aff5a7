-- Gives one socket of a user back. After the last one the user stays online for a grace.
-- KEYS: sockets
-- ARGV: member, grace in microseconds
-- Returns: 1 if it was the last: the user is to be looked at after the grace
local sockets, grace = KEYS[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

if redis.call('ZREM', sockets, ARGV[1]) == 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', sockets, '-inf', now)
if redis.call('ZCARD', sockets) > 0 then return 0 end
if grace > 0 then
  redis.call('ZADD', sockets, now + grace, 'grace')
  redis.call('PEXPIRE', sockets, math.ceil(grace / 1000))
end
return 1
