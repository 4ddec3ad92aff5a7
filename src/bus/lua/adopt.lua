-- Gives an event that somebody published plainly a place, logs it and publishes it there, once: every instance that heard
-- it asks for that. Copies of the same bytes are numbered. An instance says which one it has heard: the next after the one
-- that it heard last, or, when it has not heard any, the first that was adopted since it listens. So two copies that were
-- published on purpose are adopted both, and each once.
-- KEYS: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING), told (ZSET number -> when
--       it was adopted, microseconds)
-- ARGV: channel, an epoch in case one begins, most events, most bytes, seconds the log lives, seconds the position lives,
--       where an envelope has its time, most records, seconds the index lives, the epoch in which copies were numbered, the
--       number or 0, for how many microseconds it listens, seconds that copies are told apart, version and kind of the
--       envelope, when it is sent (8 bytes), the object without its last brace
-- Returns: 1 if it was adopted now, the number, the epoch
local position, log, taken, index, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch = begin(position, log, taken, index, ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local newest = tonumber(redis.call('ZREVRANGE', told, 0, 0)[1] or '0')
local number = tonumber(ARGV[11])
if number == 0 or ARGV[10] ~= epoch then
  local from = string.format('(%.0f', now - ARGV[12])
  local before = redis.call('ZREVRANGEBYSCORE', told, from, '-inf', 'LIMIT', 0, 1)[1]
  local oldest = redis.call('ZRANGE', told, 0, 0)[1]
  number = before and before + 1 or tonumber(oldest or '1')
end
if newest >= number then return { 0, number, epoch } end

redis.call('ZREMRANGEBYSCORE', told, '-inf', string.format('%.0f', now - ARGV[13] * 1000000))
redis.call('ZADD', told, string.format('%.0f', now), string.format('%.0f', number))
redis.call('EXPIRE', told, ARGV[13] * 3)
local offset = redis.call('HINCRBY', position, 'offset', 1)
local published = tonumber(redis.call('HGET', position, 'published') or '0')
local bytes = 0
if redis.call('EXISTS', log) == 1 then bytes = tonumber(redis.call('HGET', position, 'bytes') or '0') end
local body = ARGV[16] .. ',"epoch":"' .. epoch .. '","offset":' .. string.format('%.0f', offset) .. '}'
local envelope = ARGV[14] .. struct.pack('<I8I8', tonumber(epoch), offset) .. string.rep('\0', 16) .. ARGV[15]
  .. string.rep('\0', 8) .. struct.pack('<I4', #body) .. body
redis.call('ZADD', log, offset, envelope)
redis.call('PUBLISH', ARGV[1], envelope)
keep(position, index, published, { { offset, trace(false, nil) } }, tonumber(ARGV[8]), ARGV[9])
settle(position, log, published, bytes + #envelope, { [offset] = envelope }, tonumber(ARGV[7]), ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return { 1, number, epoch }
