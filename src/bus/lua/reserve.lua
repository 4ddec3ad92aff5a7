-- Takes the next offsets of a topic; the first ever begins an epoch. Notes for which messages, so that others can find out
-- what became of them should their owner die before it publishes.
-- KEYS: position (HASH), log (ZSET offset -> envelope), taken (HASH offset -> note), index (STRING)
-- ARGV: number of offsets, an epoch in case one begins, seconds to live, one note for each offset or none at all
-- Returns: the epoch, the first offset
local position, taken = KEYS[1], KEYS[3]
local epoch = begin(position, KEYS[2], taken, KEYS[4], ARGV[2])
local first = redis.call('HINCRBY', position, 'offset', ARGV[1]) - ARGV[1] + 1
redis.call('EXPIRE', position, ARGV[3])
if #ARGV > 3 then
  local notes = {}
  for i = 4, #ARGV do
    notes[#notes + 1], notes[#notes + 2] = string.format('%.0f', first + i - 4), ARGV[i]
  end
  redis.call('HSET', taken, unpack(notes))
  redis.call('EXPIRE', taken, ARGV[3])
end
return { epoch, first }
