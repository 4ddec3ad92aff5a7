//! The protocol, pure: commands in, events out, refusals and close codes.
//!
//! Owns every byte of JSON that a client sees or sends. Does no I/O, knows no socket, and is the only place that may
//! invent a code or a text of the contract.

pub mod close;
pub mod command;
pub mod event;
pub mod refusal;

pub use close::Close;
pub use command::ClientCommand;
pub use refusal::{Code, Refusal};
