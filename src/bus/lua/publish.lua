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
local traces = {}
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
    end
    -- A note is left where the log was written and the script did not come to its end.
    local note = redis.call('HGET', taken, string.format('%.0f', offset))
    if fresh or note then traces[#traces + 1] = { offset, trace(string.byte(event, 2) == void, note) } end
  end
  if fresh then
    redis.call('PUBLISH', channel, event)
    sent = sent + 1
  end
  if current then redis.call('HDEL', taken, string.format('%.0f', offset)) end
  offset = offset + 1
end
if not current then return sent end
keep(position, index, published, traces, tonumber(ARGV[10]), ARGV[11])
settle(position, log, published, bytes, time_at, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return sent
