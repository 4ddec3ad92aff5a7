//! Postgres: Django's tables. The only SQL in the gateway.
