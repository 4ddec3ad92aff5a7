-- After events were logged: moves the end of the part without holes on, keeps the log within its bounds, and everything
-- alive. `bytes` is how large the log is; `known` are events of it by offset, which need not be read again.
local function settle(position, log, published, bytes, known, time_at, most, most_bytes, log_seconds, position_seconds)
  local time = 0
  while true do
    local next = known[published + 1] or redis.call('ZRANGEBYSCORE', log, published + 1, published + 1)[1]
    if not next then break end
    published = published + 1
    local at = struct.unpack('<i8', next, time_at)
    if at > time then time = at end
  end
  local count = redis.call('ZCARD', log)
  while count > tonumber(most) or (bytes > tonumber(most_bytes) and count > 1) do
    bytes = bytes - #redis.call('ZPOPMIN', log)[1]
    count = count - 1
  end
  redis.call('HSET', position, 'published', published, 'bytes', bytes)
  if time > 0 then redis.call('HSET', position, 'time', string.format('%.0f', time)) end
  redis.call('EXPIRE', log, log_seconds)
  redis.call('EXPIRE', position, position_seconds)
end

