-- Uses a resume ticket up, or says why it is not good. The clock is Redis's, so that instances need not agree on the time.
-- KEYS: used (of this ticket), ended (HASH generation, version, at: what was revoked of the user's, and when)
-- ARGV: when it expires in microseconds, its generation, its session version or nothing
-- Returns: ok, expired, revoked or replayed; the time in microseconds
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local left = tonumber(ARGV[1]) - now
if left <= 0 then return { 'expired', now } end
local ended = redis.call('HMGET', KEYS[2], 'generation', 'version')
if ended[1] and ended[1] ~= ARGV[2] then return { 'revoked', now } end
if ended[2] and (ARGV[3] == '' or tonumber(ARGV[3]) < tonumber(ended[2])) then return { 'revoked', now } end
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', math.ceil(left / 1000)) then return { 'replayed', now } end
return { 'ok', now }
