-- Takes or renews one seat. Announces the user who was not online before.
-- KEYS: presence, seats, places, state, channel
-- ARGV: instance, lease in seconds, time to live in milliseconds, user, announcement
-- Returns: 1 if announced, number online, epoch, number expired, up to 100 users (the latest first)
local presence, seats, places, state, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local instance, lease, live, user, announcement = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local ends = now + lease
-- Whole seconds, where they are short beside a lease: those Redis keeps as integers in a small set, and finds a place among
-- fifty of them without reading fifty numbers from text, which was most of what a renewal cost.
if tonumber(lease) >= 10 then ends = math.floor(ends) end

redis.call('ZADD', seats, ends, user .. '|' .. instance)
redis.call('ZADD', places, ends, instance)
local first = redis.call('ZADD', presence, ends, user)
redis.call('HSETNX', state, 'epoch', string.format('%d%06d', clock[1], clock[2]))
redis.call('HSET', state, 'told', 1)
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], live) end

local online = redis.call('ZCARD', presence)
if first == 1 then redis.call('PUBLISH', channel, announcement .. online) end
return {
  first,
  online,
  redis.call('HGET', state, 'epoch'),
  redis.call('ZCOUNT', presence, '-inf', now),
  redis.call('ZREVRANGE', presence, 0, 99),
}
