-- Renews the leases of some users' sockets on one instance.
-- KEYS: sockets of each user
-- ARGV: lease in microseconds, and for each user: how many members, member...
local lease = tonumber(ARGV[1])
local clock = redis.call('TIME')
local ends = clock[1] * 1000000 + clock[2] + lease
local at = 2
for _, sockets in ipairs(KEYS) do
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last do redis.call('ZADD', sockets, ends, ARGV[i]) end
  redis.call('PEXPIRE', sockets, math.ceil(lease / 1000))
  at = last + 1
end
return redis.status_reply('OK')
