-- The server's life, looked up once for all the topics of a call.
local life

-- Begins an epoch if there is none, or if the server has lived another life since: one that was restarted from disk, or a
-- replica that took over, may have forgotten the newest offsets, which must not be given out again. Returns the epoch.
local function begin(position, log, taken, index, fresh)
  life = life or string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  local there = redis.call('HMGET', position, 'epoch', 'life')
  if there[1] and there[2] == life then return there[1] end
  local clock = redis.call('TIME')
  redis.call('DEL', position, log, taken, index)
  redis.call('HSET', position, 'epoch', fresh, 'life', life,
             'time', string.format('%.0f', clock[1] * 1000000 + clock[2]))
  return fresh
end

