-- Logs and publishes events at offsets taken before. What the log already has at an offset is not published again, so that
-- a repeated call after a lost answer does nothing; only a void gives way to the event that comes late after all. The log
-- is bounded by number and by bytes.
-- KEYS: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING)
-- ARGV: channel, epoch, first offset, most events, most bytes, seconds the log lives, seconds the position lives,
--       kind of a void, where an envelope has its time, most records, seconds the index lives, envelopes...
-- Returns: number of envelopes published
local position, log, taken, index, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local stands = redis.call('HMGET', position, 'epoch', 'published', 'bytes')
if stands[1] ~= ARGV[2] then
  for i = 12, #ARGV do redis.call('PUBLISH', channel, ARGV[i]) end
  return #ARGV - 11
end

local first, count, void = tonumber(ARGV[3]), #ARGV - 11, tonumber(ARGV[8])
local published, bytes = tonumber(stands[2] or '0'), tonumber(stands[3] or '0')
if redis.call('EXISTS', log) == 0 then bytes = 0 end
local known, names = {}, {}
local found = redis.call('ZRANGEBYSCORE', log, first, first + count - 1, 'WITHSCORES')
for i = 1, #found, 2 do known[tonumber(found[i + 1])] = found[i] end
for i = 1, count do names[i] = string.format('%.0f', first + i - 1) end
-- A note is left where the log was written and the script did not come to its end.
local notes, noted = redis.call('HMGET', taken, unpack(names)), false

-- A batch has some hundred events; as many thousands as these would be too much for unpack.
local news, added, traces = {}, {}, {}
for i = 1, count do
  local offset, event, there = first + i - 1, ARGV[i + 11], known[first + i - 1]
  local is_void = string.byte(event, 2) == void
  -- What is neither there nor after the end was published, and trimmed since.
  local fresh = offset > published
  if there then fresh = string.byte(there, 2) == void and not is_void end
  if fresh then
    if there then
      redis.call('ZREM', log, there)
      bytes = bytes - #there
    end
    news[#news + 1], added[#added + 1], added[#added + 2] = event, names[i], event
    known[offset], bytes = event, bytes + #event
  end
  if fresh or notes[i] then traces[#traces + 1] = { offset, trace(is_void, notes[i]) } end
  noted = noted or notes[i]
end
if #news > 0 then redis.call('ZADD', log, unpack(added)) end
for _, event in ipairs(news) do redis.call('PUBLISH', channel, event) end
if noted then redis.call('HDEL', taken, unpack(names)) end
keep(position, index, published, traces, tonumber(ARGV[10]), ARGV[11])
settle(position, log, published, bytes, known, tonumber(ARGV[9]), ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return #news
