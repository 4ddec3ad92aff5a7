//! One WebSocket. Knows no chat.
//!
//! ```text
//!                  ┌─ Socket (the connection's task) ─────────────┐
//! kernel ─► Reader ─► Decoder ─► Event ─► Incoming ─► session      │
//!                  │                 └─ pong, close echo ─┐        │
//!                  └──────────────────────────────────────┼────────┘
//!                                                         ▼
//! kernel ◄── try_write ◄────────────────────────────── Outbox ◄─── hub, session, Heartbeat (any thread)
//! ```
//!
//! `fastwebsockets` lends its `unmask`, opcodes and close codes. Its loops are not used: they are not cancel-safe, hold
//! 8 to 16 KiB a connection, and let clients send what the RFC forbids.
//!
//! # Lean at rest
//! A connection at rest holds no buffer and no timer: one [`Outbox`] (shared), one [`Socket`] within its session's
//! task, and what tokio keeps for a registered socket. `tests::sizes` fails when they grow. The reader waits with
//! `poll_read_ready`, not `readable()`: that takes over the waker slot that hyper's finished task used, which would
//! otherwise stay allocated until the first byte.

mod connection;
mod decode;
mod ending;
mod frame;
mod heartbeat;
mod limits;
pub mod outbox;
mod queue;
mod reader;
#[cfg(test)]
mod testing;
mod upgraded;

pub use connection::{Incoming, Socket, TextMessage};
pub use decode::Violation;
pub use ending::{By, Ending};
pub use frame::Frame;
pub use heartbeat::Heartbeat;
pub use limits::{Limits, Shared};
pub use outbox::{Outbox, Pushed};
pub use queue::Class;
