//! The two listeners: the public one, where browsers knock, and the private one, for operators.
//!
//! Owns everything from `accept` to the 101 that makes a connection a WebSocket, which it hands over as an
//! [`Arrival`]. It finds credentials, and must never judge or use them: what is refused here has touched no token. It
//! must never read or write a WebSocket frame, nor log a query string, a cookie or an address.

mod accept;
mod answer;
mod credentials;
mod desk;
mod door;
mod forwarded;
pub mod ops;
mod path;
pub mod public;
mod upgrade;

pub use desk::{AdminAnswer, AdminRequest, Content};
pub use door::{DoorControl, Guard};
pub use ops::{Ops, OpsThread};
pub use path::SocketPath;
pub use public::{Arrival, Public, PublicSettings};
