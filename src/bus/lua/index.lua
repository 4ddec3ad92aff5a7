-- Writes down what became of offsets, so that it is known when the log has their events no more: a record of 17 bytes for
-- each, one letter (n: a new message, c: a change of one, v: nothing, o: something that is only in the log) and the
-- message's id. The records after the offset in `base` stand in `index` one behind the other.

-- The record of an event, whose note is `note`.
local function trace(is_void, note)
  if is_void then return 'v' .. string.rep('\0', 16) end
  local word, id = string.match(note or '', '^([nc])%a+ ([%x-]+)$')
  if not word then return 'o' .. string.rep('\0', 16) end
  id = string.gsub(id, '-', '')
  return word .. string.gsub(id, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end)
end

-- Keeps records {offset, record}. Nothing is known of what was published before the first of them.
local function keep(position, index, published, traces, most, seconds)
  if #traces == 0 then return end
  local base = tonumber(redis.call('HGET', position, 'base') or '0')
  if redis.call('EXISTS', index) == 0 then
    base = published
    redis.call('HSET', position, 'base', string.format('%.0f', base))
  end
  local length = 0
  for _, kept in ipairs(traces) do
    if kept[1] > base then length = redis.call('SETRANGE', index, (kept[1] - base - 1) * 17, kept[2]) end
  end
  local over = length / 17 - most
  if over > most / 4 then
    local rest = redis.call('GETRANGE', index, over * 17, -1)
    redis.call('SET', index, rest)
    redis.call('HSET', position, 'base', string.format('%.0f', base + over))
  end
  redis.call('EXPIRE', index, seconds)
end

