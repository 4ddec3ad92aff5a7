-- Writes down what became of offsets, so that it is known when the log has their events no more: a record of 17 bytes for
-- each, one letter (n: a new message, c: a change of one, v: nothing, o: something that is only in the log) and the
-- message's id. The records after the offset in `base` stand in `index` one behind the other.
local no_id = string.rep('\0', 16)

-- The record of an event. Its note, if there is one, is its record; what is none, because somebody else wrote it, must not
-- move the records behind it.
local function trace(is_void, note)
  if is_void then return 'v' .. no_id end
  return note and #note == 17 and note or 'o' .. no_id
end

-- Keeps records {offset, record}, those of neighbours in one write. Nothing is known of what was published before the first.
local function keep(position, index, published, traces, most, seconds)
  if #traces == 0 then return end
  local base = tonumber(redis.call('HGET', position, 'base') or '0')
  if redis.call('EXISTS', index) == 0 then
    base = published
    redis.call('HSET', position, 'base', string.format('%.0f', base))
  end
  local length, first, records = 0, 0, {}
  local function write()
    if #records > 0 then length = redis.call('SETRANGE', index, (first - base - 1) * 17, table.concat(records)) end
  end
  for _, kept in ipairs(traces) do
    if kept[1] > base then
      if kept[1] ~= first + #records then
        write()
        first, records = kept[1], {}
      end
      records[#records + 1] = kept[2]
    end
  end
  write()
  local over = length / 17 - most
  if over > most / 4 then
    local rest = redis.call('GETRANGE', index, over * 17, -1)
    redis.call('SET', index, rest)
    redis.call('HSET', position, 'base', string.format('%.0f', base + over))
  end
  redis.call('EXPIRE', index, seconds)
end

