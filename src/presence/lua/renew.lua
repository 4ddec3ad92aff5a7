-- Renews the leases of many users of one instance. A user who is missing although this life of the presence is the one
-- that the instance knows was announced as gone: the caller joins them again. If the whole presence was lost instead,
-- nobody was told, and they come back silently; unless somebody entered or left meanwhile, who saw it incomplete.
-- KEYS: presence, seats, places, state
-- ARGV: instance, lease in seconds, time to live in milliseconds, known epoch, user...
-- Returns: epoch, users to join again, up to 256 users whose lease has ended
local presence, seats, places, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local instance, lease, live, known = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local ends = now + lease
-- Whole seconds, where they are short beside a lease: those Redis keeps as integers in a small set, and finds a place among
-- fifty of them without reading fifty numbers from text, which was most of what a renewal cost.
if tonumber(lease) >= 10 then ends = math.floor(ends) end

redis.call('HSETNX', state, 'epoch', string.format('%d%06d', clock[1], clock[2]))
local epoch = redis.call('HGET', state, 'epoch')
local silent = epoch ~= known and not redis.call('HGET', state, 'told')
local known_ends = not silent and redis.call('ZMSCORE', presence, unpack(ARGV, 5))
local online, seated, missing = {}, {}, {}
for i = 5, #ARGV do
  local user = ARGV[i]
  if silent or known_ends[i - 4] then
    online[#online + 1], online[#online + 2] = ends, user
    seated[#seated + 1], seated[#seated + 2] = ends, user .. '|' .. instance
  else
    missing[#missing + 1] = user
  end
end
if #online > 0 then
  redis.call('ZADD', presence, unpack(online))
  redis.call('ZADD', seats, unpack(seated))
end
redis.call('ZADD', places, ends, instance)
redis.call('ZREMRANGEBYSCORE', seats, '-inf', now)
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], live) end
return { epoch, missing, redis.call('ZRANGEBYSCORE', presence, '-inf', now, 'LIMIT', 0, 256) }
