-- Announces that a user is offline, if no socket came back within the grace. Two instances may announce the same: who
-- watches knows what was said before.
-- KEYS: sockets
-- ARGV: channel, announcement
-- Returns: microseconds that a grace still lasts, or 0
local sockets = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

redis.call('ZREMRANGEBYSCORE', sockets, '-inf', now)
if redis.call('ZCARD', sockets) == 0 then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
  return 0
end
local grace = redis.call('ZSCORE', sockets, 'grace')
return grace and grace - now or 0
