-- Publishes messages on a group's channel, if anybody but gateways listens: whoever listens on the twin is a gateway.
-- Nothing is sent twice under one mark.
-- KEYS: mark; ARGV: the group's channel, its twin, messages
-- Returns: 1 if there was anybody, 0
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', 60) then return { 1, 0 } end
local heard = redis.call('PUBSUB', 'NUMSUB', ARGV[1], ARGV[2])
if tonumber(heard[2]) <= tonumber(heard[4]) then return { 0, 0 } end
for i = 3, #ARGV do redis.call('PUBLISH', ARGV[1], ARGV[i]) end
return { 1, 0 }
