//! Resume tickets: what a client comes back with that was here a moment ago, in place of a token of Django's.
//!
//! Pure: seals and opens. A ticket is signed with a key derived from Django's `SECRET_KEY`, so that every instance opens
//! those of all others and nothing of Django's is taken for one. Whether it is out of date, used or revoked is decided by
//! Redis, with its own clock.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

use crate::domain::{ConnectionId, Micros, UserId};

/// What the key is derived for: nothing else signed with Django's key may be taken for a ticket.
const LABEL: &[u8] = b"community-gateway resume ticket v1";
/// The first byte of a ticket.
const VERSION: u8 = 2;
/// Bytes before the signature: version, id, user, whether there is a session version, which, generation, expiry, connection.
const BODY: usize = 1 + 16 + 8 + 1 + 8 + 8 + 8 + 8;
/// Bytes of the signature.
const SIGNATURE: usize = 32;

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Of this ticket alone: it is used once.
    pub id: Uuid,
    pub user: UserId,
    /// The session that its holder had logged in to; see [`super::Identity`].
    pub session_version: Option<i64>,
    /// Tickets of an older generation of the user's are revoked.
    pub generation: u64,
    /// By Redis's clock.
    pub expires: Micros,
    /// The socket that it was given on, in whose place its holder comes back.
    pub connection: ConnectionId,
}

/// Why a string is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("the resume ticket has another form")]
    Malformed,
    #[error("the resume ticket's signature is not right")]
    Forged,
}

/// Seals tickets and opens them.
pub struct Sealer(hmac::Key);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Derives the key from Django's `SECRET_KEY`.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&master, LABEL).as_ref()))
    }

    /// Writes a ticket as URL-safe text.
    #[must_use]
    pub fn seal(&self, ticket: &Ticket) -> String {
        let mut bytes = Vec::with_capacity(BODY + SIGNATURE);
        bytes.push(VERSION);
        bytes.extend_from_slice(ticket.id.as_bytes());
        bytes.extend_from_slice(&ticket.user.0.to_be_bytes());
        bytes.push(u8::from(ticket.session_version.is_some()));
        bytes.extend_from_slice(&ticket.session_version.unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(&ticket.generation.to_be_bytes());
        bytes.extend_from_slice(&ticket.expires.0.to_be_bytes());
        bytes.extend_from_slice(&ticket.connection.0.to_be_bytes());
        let signature = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(signature.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a ticket that this key has sealed.
    ///
    /// # Errors
    /// When it has another form, or another signature.
    pub fn open(&self, text: &str) -> Result<Ticket, TicketError> {
        // Longer strings are not decoded at all.
        if text.len() != ((BODY + SIGNATURE) * 8).div_ceil(6) {
            return Err(TicketError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TicketError::Malformed)?;
        let (body, signature) = bytes.split_at_checked(BODY).ok_or(TicketError::Malformed)?;
        hmac::verify(&self.0, body, signature).map_err(|_| TicketError::Forged)?;
        let number = |at: usize| -> Result<[u8; 8], TicketError> {
            body.get(at..at + 8).and_then(|slice| slice.try_into().ok()).ok_or(TicketError::Malformed)
        };
        if body[0] != VERSION {
            return Err(TicketError::Malformed);
        }
        Ok(Ticket {
            id: Uuid::from_slice(&body[1..17]).map_err(|_| TicketError::Malformed)?,
            user: UserId(i64::from_be_bytes(number(17)?)),
            session_version: if body[25] == 1 { Some(i64::from_be_bytes(number(26)?)) } else { None },
            generation: u64::from_be_bytes(number(34)?),
            expires: Micros(i64::from_be_bytes(number(42)?)),
            connection: ConnectionId(u64::from_be_bytes(number(50)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        let (id, user, expires) = (Uuid::from_u128(7), UserId(42), Micros(1_795_000_000_000_000));
        Ticket { id, user, session_version: Some(-3), generation: u64::MAX, expires, connection: ConnectionId(9) }
    }

    #[test]
    fn a_ticket_comes_back_as_it_was_sealed() {
        let sealer = Sealer::new("secret");
        for ticket in [ticket(), Ticket { session_version: None, generation: 0, ..ticket() }] {
            assert_eq!(Sealer::new("secret").open(&sealer.seal(&ticket)), Ok(ticket));
        }
    }

    #[test]
    fn what_another_key_has_sealed_is_forged() {
        let sealed = Sealer::new("secret").seal(&ticket());
        assert_eq!(Sealer::new("another").open(&sealed), Err(TicketError::Forged));
        // The very key of Django's, without the derivation.
        let body = URL_SAFE_NO_PAD.decode(&sealed).expect("is base64")[..BODY].to_vec();
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), &body);
        let by_django = URL_SAFE_NO_PAD.encode([body, signature.as_ref().to_vec()].concat());
        assert_eq!(Sealer::new("secret").open(&by_django), Err(TicketError::Forged));
    }

    proptest! {
        #[test]
        fn no_bit_may_be_changed(at in 0_usize..(BODY + SIGNATURE), bit in 0_u8..8) {
            let sealer = Sealer::new("secret");
            let mut bytes = URL_SAFE_NO_PAD.decode(sealer.seal(&ticket())).expect("is base64");
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(sealer.open(&URL_SAFE_NO_PAD.encode(bytes)), Err(TicketError::Forged));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*", tail in "[A-Za-z0-9_-]{120}") {
            let sealer = Sealer::new("secret");
            prop_assert!(sealer.open(&text).is_err());
            prop_assert!(sealer.open(&tail).is_err());
        }
    }
}
