//! Behaviour of the gateway over real Postgres and Redis.
