-- Says which generation of a user's resume tickets is good now, and what time it is.
-- KEYS: ended (HASH generation, version, at)
-- Returns: the generation or nothing, microseconds, when the user's sessions were ended last, in microseconds, or nothing
local clock = redis.call('TIME')
local ended = redis.call('HMGET', KEYS[1], 'generation', 'at')
return { ended[1], clock[1] * 1000000 + clock[2], ended[2] }
