-- Sends messages to the members of a group that are no gateways, as channels_redis does: one copy for each inbox, that
-- names all channels of the inbox. What does not fit into an inbox is dropped there. Nothing is sent twice under one
-- mark.
-- KEYS: group, mark
-- ARGV: prefix, how channels of gateways begin, capacity of an inbox, seconds that a message waits, seconds that a
--       member counts, then for each message: random bytes, the map without its last entry
-- Returns: 1 if there was anybody, number dropped
local group, prefix, ours = KEYS[1], ARGV[1], ARGV[2]
local capacity, waits = tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', 60) then return { 1, 0 } end
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
redis.call('ZREMRANGEBYSCORE', group, 0, clock[1] - ARGV[5])
local inboxes, names = {}, {}
for _, name in ipairs(redis.call('ZRANGE', group, 0, -1)) do
  if string.sub(name, 1, #ours) ~= ours then
    local mark = string.find(name, '!', 1, true)
    local inbox = prefix .. (mark and string.sub(name, 1, mark) or name)
    if not names[inbox] then
      names[inbox] = {}
      inboxes[#inboxes + 1] = inbox
    end
    table.insert(names[inbox], name)
  end
end
local dropped = 0
for _, inbox in ipairs(inboxes) do
  redis.call('ZREMRANGEBYSCORE', inbox, 0, clock[1] - waits)
  local waiting = redis.call('ZCARD', inbox)
  local address = cmsgpack.pack('__asgi_channel__') .. cmsgpack.pack(names[inbox])
  for i = 6, #ARGV, 2 do
    if waiting < capacity then
      -- A microsecond apart, so that they are read in their order.
      local at = string.format('%.6f', now + (i - 6) / 2000000)
      redis.call('ZADD', inbox, at, ARGV[i] .. ARGV[i + 1] .. address)
      waiting = waiting + 1
    else
      dropped = dropped + 1
    end
  end
  redis.call('EXPIRE', inbox, waits)
end
return { #inboxes > 0 and 1 or 0, dropped }
