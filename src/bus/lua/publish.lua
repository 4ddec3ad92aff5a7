-- Logs and publishes events at offsets taken before. What the log already has at an offset is not published again, so that
-- a repeated call after a lost answer does nothing; only a void gives way to the event that comes late after all. The log
-- is bounded by number and by bytes.
-- KEYS: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING)
-- ARGV: channel, epoch, first offset, most events, most bytes, seconds the log lives, seconds the position lives,
--       kind of a void, where an envelope has its time, most records, seconds the index lives, envelopes...
-- Returns: number of envelopes published
local position, log, taken, index, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local current = redis.call('HGET', position, 'epoch') == ARGV[2]
local published = tonumber(redis.call('HGET', position, 'published') or '0')
local offset, void, time_at, sent, bytes = tonumber(ARGV[3]), tonumber(ARGV[8]), tonumber(ARGV[9]), 0, 0
local before, traces = published, {}
if redis.call('EXISTS', log) == 1 then bytes = tonumber(redis.call('HGET', position, 'bytes') or '0') end
for i = 12, #ARGV do
  local event, fresh = ARGV[i], true
  if current then
    local there = redis.call('ZRANGEBYSCORE', log, offset, offset)
    if #there > 0 and (string.byte(there[1], 2) ~= void or string.byte(event, 2) == void) then
      fresh = false
    elseif #there == 0 and offset <= published then
      fresh = false -- published, and trimmed since
    else
      if #there > 0 then
        redis.call('ZREM', log, there[1])
        bytes = bytes - #there[1]
      end
      redis.call('ZADD', log, offset, event)
      bytes = bytes + #event
      local note = redis.call('HGET', taken, string.format('%.0f', offset))
      traces[#traces + 1] = { offset, trace(string.byte(event, 2) == void, note) }
    end
    redis.call('HDEL', taken, string.format('%.0f', offset))
  end
  if fresh then
    redis.call('PUBLISH', channel, event)
    sent = sent + 1
  end
  offset = offset + 1
end
if not current then return sent end
local time = 0
while true do
  local next = redis.call('ZRANGEBYSCORE', log, published + 1, published + 1)
  if #next == 0 then break end
  published = published + 1
  local at = struct.unpack('<i8', next[1], time_at)
  if at > time then time = at end
end
local count = redis.call('ZCARD', log)
while count > tonumber(ARGV[4]) or (bytes > tonumber(ARGV[5]) and count > 1) do
  bytes = bytes - #redis.call('ZPOPMIN', log)[1]
  count = count - 1
end
redis.call('HSET', position, 'published', published, 'bytes', bytes)
if time > 0 then redis.call('HSET', position, 'time', string.format('%.0f', time)) end
keep(position, index, before, traces, tonumber(ARGV[10]), ARGV[11])
redis.call('EXPIRE', log, ARGV[6])
redis.call('EXPIRE', position, ARGV[7])
return sent
