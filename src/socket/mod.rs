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
//! A connection at rest holds no buffer and no timer: an [`Outbox`] (184 bytes with its counts, shared), a [`Socket`]
//! (56 bytes within its session's task), 16 bytes in the [`Heartbeat`], and what tokio keeps for a registered socket
//! (256 bytes). `connection::tests::sizes` fails when they grow. All told, an idle connection of `examples/echo.rs`
//! adds 1.5 KiB to the process's resident memory, its task included, and no more after a message of 4,000 bytes (9,000
//! connections, glibc's allocator, unoptimised build).
//!
//! The reader waits with `poll_read_ready`, not `readable()`: that takes over the waker slot that hyper's finished task
//! used, which would otherwise stay allocated until the first byte.

mod connection;
pub mod decode;
mod ending;
mod frame;
mod heartbeat;
mod limits;
pub mod outbox;
mod queue;
mod reader;
#[cfg(test)]
pub(crate) mod testing;

pub use connection::{Incoming, Socket, TextMessage};
pub use decode::Violation;
pub use ending::{By, Ending};
pub use frame::Frame;
pub use heartbeat::Heartbeat;
pub use limits::{Limits, Shared};
pub use outbox::{Outbox, Pushed};
pub use queue::Class;
