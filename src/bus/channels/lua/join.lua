-- Puts a gateway's channels into groups, or says again that they are there.
-- KEYS: groups of the client
-- ARGV: seconds that a group lives, then for each group: its key, the channel
local clock = redis.call('TIME')
local now = string.format('%.6f', clock[1] + clock[2] / 1000000)
for i = 2, #ARGV, 2 do
  redis.call('ZADD', ARGV[i], now, ARGV[i + 1])
  redis.call('EXPIRE', ARGV[i], ARGV[1])
  redis.call('SADD', KEYS[1], ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1] * 2)
