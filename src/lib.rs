//! A realtime chat gateway that runs beside a Django application.
//!
//! Inward, every step takes what the one before it made:
//!
//! ```text
//! browser ──ws──► http ─► identity ─► session ─► socket.reader ─► wire.decode ─► access.check ─► command.run ─┐
//!                                        ▲                                                                    ▼
//!                                  socket.writer ◄─ outbox ◄─ hub ◄─ bus ◄── Redis ◄── bus.publish ◄── store (Postgres)
//! ```
//!
//! The modules, in the order of the data. `tests/architecture.rs` fails on an import against it.

pub mod config;
pub mod domain;
pub mod keyspace;
pub mod lifecycle;
pub mod telemetry;
pub mod transport;

pub mod moderation;
pub mod text;
pub mod wire;

pub mod bus;
pub mod django;
pub mod handover;
pub mod identity;
pub mod presence;
pub mod realtime;
pub mod socket;
pub mod store;

pub mod access;
pub mod command;
pub mod http;
pub mod hub;
pub mod session;

pub mod admin;
pub mod cli;
pub mod gateway;
pub mod health;
