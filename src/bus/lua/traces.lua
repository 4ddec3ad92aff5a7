-- Reads what became of offsets.
-- KEYS: position (HASH), index (STRING)
-- ARGV: epoch, first offset, last offset
-- Returns: their records, one behind the other; nothing, if it is not known of all of them
local stands = redis.call('HMGET', KEYS[1], 'epoch', 'base')
local first, last = ARGV[2] - (stands[2] or 0) - 1, ARGV[3] - (stands[2] or 0)
if stands[1] ~= ARGV[1] or first < 0 then return '' end
local found = redis.call('GETRANGE', KEYS[2], first * 17, last * 17 - 1)
if #found ~= (last - first) * 17 then return '' end
return found
