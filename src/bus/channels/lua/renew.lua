-- Renews a gateway's lease.
-- KEYS: clients
-- ARGV: client, seconds of the lease
-- Returns: 1 if the lease had not ended, up to 16 clients whose lease has
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) > now
redis.call('ZADD', KEYS[1], string.format('%.6f', now + ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], 172800)
return { held and 1 or 0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now), 'LIMIT', 0, 16) }
