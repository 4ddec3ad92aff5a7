-- Says which generation of a user's resume tickets is good now, and what time it is.
-- KEYS: ended (HASH generation, version)
-- Returns: the generation or nothing, microseconds
local clock = redis.call('TIME')
return { redis.call('HGET', KEYS[1], 'generation'), clock[1] * 1000000 + clock[2] }
