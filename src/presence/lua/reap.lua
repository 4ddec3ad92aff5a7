-- Removes and announces users whose lease has ended; who renewed in the meantime stays. However many instances try,
-- one of them removes a user.
-- KEYS: presence, seats, places, state, channel
-- ARGV: for each user: user, announcement
-- Returns: the users announced, up to 256 further users whose lease has ended
local presence, channel = KEYS[1], KEYS[5]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

local announced = {}
for i = 1, #ARGV, 2 do
  local ends = redis.call('ZSCORE', presence, ARGV[i])
  if ends and tonumber(ends) <= now then
    redis.call('ZREM', presence, ARGV[i])
    announced[#announced + 1] = ARGV[i]
    redis.call('PUBLISH', channel, ARGV[i + 1] .. redis.call('ZCARD', presence))
  end
end
if redis.call('ZCARD', presence) == 0 then redis.call('DEL', presence, KEYS[2], KEYS[3], KEYS[4]) end
return { announced, redis.call('ZRANGEBYSCORE', presence, '-inf', now, 'LIMIT', 0, 256) }
