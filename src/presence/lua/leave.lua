-- Gives up seats of one instance. Announces those users who have no living seat on another instance.
-- KEYS: presence, seats, places, state, channel
-- ARGV: instance, known epoch, time to live in milliseconds, then for each user: user, 1 if the seat was held, announcement
-- Returns: the users announced
local presence, seats, places, state, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local instance, known, live = ARGV[1], ARGV[2], ARGV[3]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

local lost = redis.call('HGET', state, 'epoch') ~= known
local others = redis.call('ZRANGEBYSCORE', places, '(' .. string.format('%.6f', now), '+inf')
local announced = {}
for i = 4, #ARGV, 3 do
  local user, held, announcement = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  redis.call('ZREM', seats, user .. '|' .. instance)
  local ends = 0
  for _, other in ipairs(others) do
    if other ~= instance then
      ends = math.max(ends, tonumber(redis.call('ZSCORE', seats, user .. '|' .. other) or 0))
    end
  end
  if ends > now then
    redis.call('ZADD', presence, 'XX', ends, user)
  else
    local gone = redis.call('ZREM', presence, user)
    -- A held seat that is not there was lost with the whole presence: the others still see this user.
    if gone == 0 and held == '1' and lost then
      gone = 1
      redis.call('HSETNX', state, 'epoch', string.format('%d%06d', clock[1], clock[2]))
      redis.call('HSET', state, 'told', 1)
      redis.call('PEXPIRE', state, live)
    end
    if gone == 1 then
      announced[#announced + 1] = user
      redis.call('PUBLISH', channel, announcement .. redis.call('ZCARD', presence))
    end
  end
end
if not lost and redis.call('ZCARD', presence) == 0 then redis.call('DEL', presence, seats, places, state) end
return announced
