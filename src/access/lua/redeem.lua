-- Uses a resume ticket up, or says why it is not good. The clock is Redis's, so that instances need not agree on the time.
-- KEYS: used (of this ticket), ended (HASH generation, version, at: what was revoked of the user's, and when)
-- ARGV: the deadline of this call in microseconds, when the ticket expires in microseconds, its generation, its session
--       version or nothing
-- Returns: ok, expired, revoked or replayed; the time in microseconds. After the deadline, when nobody waits for it any
-- more, the ticket stays good, and the answer is the error LATE with the time.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[1]) then return redis.error_reply(string.format('LATE %.0f', now)) end
local left = tonumber(ARGV[2]) - now
if left <= 0 then return { 'expired', now } end
local ended = redis.call('HMGET', KEYS[2], 'generation', 'version')
if ended[1] and ended[1] ~= ARGV[3] then return { 'revoked', now } end
if ended[2] and (ARGV[4] == '' or tonumber(ARGV[4]) < tonumber(ended[2])) then return { 'revoked', now } end
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', math.ceil(left / 1000)) then return { 'replayed', now } end
return { 'ok', now }
