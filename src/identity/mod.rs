//! Who is it: credentials, connection tokens, JWTs.
//!
//! Owns the choice of the credential and its check. It knows no rooms and no rights, and it must never log or print a
//! credential. It fails closed: what cannot be checked is not let in.

pub mod cache;
pub mod cached;
pub mod check;
pub mod jwt;
mod login;
pub mod pickle;
pub mod ticket;
pub mod token;

pub use cache::{CacheError, DjangoCache};
pub use jwt::{JwtError, Verifier};
pub use login::{Credential, Credentials, Identity, Login, LoginError};
pub use ticket::{Sealer, Ticket, TicketError};
pub use token::{ConnectionToken, TokenError};
