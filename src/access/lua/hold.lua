-- Renews the leases of a user's sockets on one instance.
-- KEYS: sockets
-- ARGV: lease in microseconds, member...
local sockets, lease = KEYS[1], tonumber(ARGV[1])
local clock = redis.call('TIME')
local ends = clock[1] * 1000000 + clock[2] + lease
for i = 2, #ARGV do redis.call('ZADD', sockets, ends, ARGV[i]) end
redis.call('PEXPIRE', sockets, math.ceil(lease / 1000))
return redis.status_reply('OK')
