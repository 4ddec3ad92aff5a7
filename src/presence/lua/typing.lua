-- Notes that a user types, or no longer does, and forgets a few who stopped without saying so.
-- KEYS: typing
-- ARGV: user, 1 or 0, time to live in milliseconds
local typing, user = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if ARGV[2] == '1' then
  redis.call('HSET', typing, user, string.format('%.0f', now))
  redis.call('PEXPIRE', typing, ARGV[3])
else
  redis.call('HDEL', typing, user)
end
-- A random handful is enough, as each call adds at most one: in a crowd, all is never walked.
local some = redis.call('HRANDFIELD', typing, 16, 'WITHVALUES')
for i = 1, #some, 2 do
  if tonumber(some[i + 1]) <= now - ARGV[3] then redis.call('HDEL', typing, some[i]) end
end
return redis.status_reply('OK')
