-- Sliding windows: takes one place in all of them, or none. A place taken at t is free again at t + window, exactly.
-- KEYS: ZSET member -> microseconds
-- ARGV: member, then for each window: microseconds, places
-- Returns: microseconds to wait (0: taken), microseconds now
local key, member = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local longest = 0
for i = 2, #ARGV, 2 do longest = math.max(longest, tonumber(ARGV[i])) end
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - longest)

local wait = 0
for i = 2, #ARGV, 2 do
  local window, places = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  -- The place that must be free again is the one that many from the newest: the oldest, unless the limit has shrunk.
  local binding = redis.call('ZREVRANGE', key, places - 1, places - 1, 'WITHSCORES')
  if #binding > 0 then wait = math.max(wait, tonumber(binding[2]) + window - now) end
end
if wait == 0 then
  redis.call('ZADD', key, now, member)
  redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)
end
return { wait, now }
