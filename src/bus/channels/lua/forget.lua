-- Takes a gateway's channels out of up to 256 groups, and in the end its inbox away. One that renewed its lease in the
-- meantime is left alone, unless it is the one that asks.
-- KEYS: clients, groups of the client, its inbox
-- ARGV: client, 1 if it asks for itself
-- Returns: how many groups it was taken out of; -1 if it lives
local client = ARGV[1]
local clock = redis.call('TIME')
local ends = redis.call('ZSCORE', KEYS[1], client)
if ARGV[2] ~= '1' and ends and tonumber(ends) > clock[1] + clock[2] / 1000000 then return -1 end
local groups = redis.call('SRANDMEMBER', KEYS[2], 256)
for _, group in ipairs(groups) do
  -- What stands behind the inbox's name is the id of the room or thread: the last 36 letters of the group's.
  redis.call('ZREM', group, 'specific.' .. client .. '!' .. string.sub(group, -36))
  redis.call('SREM', KEYS[2], group)
end
if #groups == 0 then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[1], client)
end
return #groups
