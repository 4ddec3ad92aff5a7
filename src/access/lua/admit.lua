-- Admits one socket of a user, or says why not. What is refused is not recorded. The first socket is announced. A socket
-- that comes in place of another one, which counts still, takes its place, and whoever has the other one is told to end it.
-- KEYS: sockets (ZSET member -> microseconds of the lease's end), connects (ZSET member -> microseconds)
-- ARGV: member, lease in microseconds, most sockets (0: any), 1 if resumed, window in microseconds, most connects (0: any),
--       channel, announcement, the member in whose place it comes or nothing, channel for orders, order
-- Returns: 0 admitted, 1 too many sockets, 2 too many connects; microseconds to wait
local sockets, connects, member = KEYS[1], KEYS[2], ARGV[1]
local lease, most, window, places = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local counts = ARGV[4] == '0' and places > 0
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

redis.call('ZREMRANGEBYSCORE', sockets, '-inf', now)
local open = redis.call('ZCARD', sockets)
local grace = redis.call('ZSCORE', sockets, 'grace') and 1 or 0
local former = redis.call('ZSCORE', sockets, ARGV[9]) and 1 or 0
if most > 0 and open - grace - former >= most then
  return { 1, redis.call('ZRANGE', sockets, 0, 0, 'WITHSCORES')[2] - now }
end
if counts then
  redis.call('ZREMRANGEBYSCORE', connects, '-inf', now - window)
  local binding = redis.call('ZREVRANGE', connects, places - 1, places - 1, 'WITHSCORES')
  if #binding > 0 then return { 2, binding[2] + window - now } end
  redis.call('ZADD', connects, now, member)
  redis.call('PEXPIRE', connects, math.ceil(window / 1000) + 1)
end
redis.call('ZREM', sockets, 'grace', ARGV[9])
redis.call('ZADD', sockets, now + lease, member)
redis.call('PEXPIRE', sockets, math.ceil(lease / 1000))
if open == 0 then redis.call('PUBLISH', ARGV[7], ARGV[8]) end
-- Orders go to all shards of a Cluster: these quotes keep the word as it is, where the other becomes SPUBLISH.
if former == 1 then redis.call("PUBLISH", ARGV[10], ARGV[11]) end
return { 0, 0 }
