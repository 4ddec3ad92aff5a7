//! Tickets to come back with: given to whoever is in, renewed while it stays, taken from whoever returns.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::{Sessions, warden};
use crate::access::returns::{ReturnError, Returns};
use crate::config::Live;
use crate::domain::{ConnectionId, UserId};
use crate::hub::{Member, MemberKey};
use crate::identity::{Credential, Identity, Sealer, Ticket, TicketError};
use crate::lifecycle::Lifecycle;
use crate::socket::{Class, Frame, Outbox};
use crate::wire::{Close, event};

/// How often it is looked who returned, and whose ticket is to be renewed.
const TICK: Duration = Duration::from_secs(1);
/// When to come back after not being served, in milliseconds: spread, so that not all come at once.
const PUT_OFF: std::ops::Range<u64> = 1_000..5_000;
/// The key under which a newer ticket takes the place of one that still waits to be sent.
const NEWEST: u64 = 0;

/// What giving and taking tickets needs.
pub struct Tickets {
    pub sealer: Live<Sealer>,
    pub returns: Returns,
    /// How long a ticket is good; zero when there are none.
    pub life: Duration,
    /// Who was let in on rights that are a few seconds old, to be looked up again.
    pub returned: Mutex<Vec<UserId>>,
}

/// What a client had before it came back.
#[derive(Clone, Copy)]
pub(super) struct Former {
    /// Of its tickets.
    pub generation: u64,
    /// The socket that its ticket was given on.
    pub connection: ConnectionId,
}

impl Tickets {
    /// Sends a ticket to come back with in place of a connection, if there is one to be had.
    pub(super) fn give(&self, identity: &Identity, generation: Option<u64>, connection: ConnectionId, outbox: &Outbox) {
        if let Some(ticket) = self.make(identity, generation, connection) {
            let _ = outbox.push(&ticket, Class::Latest(NEWEST));
        }
    }

    /// Makes a ticket to come back with in place of a connection. Without a generation there is none to be had.
    pub(super) fn make(&self, identity: &Identity, generation: Option<u64>, connection: ConnectionId) -> Option<Frame> {
        let generation = generation.filter(|_| !self.life.is_zero())?;
        let (id, expires) = (Uuid::new_v4(), self.returns.expiry());
        let (user, session_version) = (identity.user, identity.session_version);
        let ticket = self.sealer.load().seal(&Ticket { id, user, session_version, generation, expires, connection });
        Some(Frame::text(&event::session(&ticket, expires)))
    }

    /// Tells somebody who cannot be served now when to come back, and gives a ticket for that: the login, or the ticket,
    /// is used up, and a storm must not go on to Django.
    pub(super) fn put_off(
        &self,
        identity: &Identity,
        generation: Option<u64>,
        connection: ConnectionId,
        outbox: &Outbox,
    ) -> Close {
        let (close, wait) = (Close::TRY_LATER, Duration::from_millis(rand::random_range(PUT_OFF)));
        let told = event::closing_error(close.reason, "unavailable", Some(wait));
        let _ = outbox.push(&Frame::text(&told), Class::Message);
        self.give(identity, generation, connection, outbox);
        close
    }

    /// The generation of the tickets of somebody who logs in; `None` when there are none to be had.
    ///
    /// # Errors
    /// When Django made the login's token before it ended the user's sessions.
    pub(super) async fn generation(&self, identity: &Identity) -> Result<Option<u64>, Close> {
        if self.life.is_zero() && identity.minted.is_none() {
            return Ok(None);
        }
        // Without it, the next return costs a login.
        let Ok((generation, ended)) = self.returns.generation(identity.user).await else { return Ok(None) };
        if identity.minted.is_some_and(|minted| minted < ended) {
            return Err(Close::SESSION_ENDED);
        }
        Ok(Some(generation))
    }
}

impl Sessions {
    /// Takes a ticket. It is used up, whatever is wrong with the rest, unless Redis does not answer.
    pub(super) async fn redeem(&self, text: &str) -> Result<(Identity, Former), Close> {
        let result = self.check_ticket(text).await;
        let outcome = result.as_ref().map_or_else(|reason| *reason, |_| "ok");
        self.metrics.logins_total.with_label_values(&["ticket", outcome]).inc();
        let ticket = result.map_err(|reason| {
            tracing::info!(reason, "a resume ticket was refused");
            if reason == "unavailable" { Close::TRY_LATER } else { Close::NOT_AUTHENTICATED }
        })?;
        let Ticket { user, session_version, generation, connection, .. } = ticket;
        let identity = Identity { user, credential: Credential::Ticket, session_version, minted: None };
        Ok((identity, Former { generation, connection }))
    }

    async fn check_ticket(&self, text: &str) -> Result<Ticket, &'static str> {
        if self.tickets.life.is_zero() {
            return Err("off");
        }
        let ticket = self.tickets.sealer.load().open(text).map_err(|error| match error {
            TicketError::Malformed => "malformed",
            TicketError::Forged => "bad_signature",
        })?;
        let Ticket { id, user, session_version, generation, expires, .. } = ticket;
        let redeemed = self.tickets.returns.redeem(id, user, session_version, generation, expires).await;
        redeemed.map(|()| ticket).map_err(|error| match error {
            ReturnError::Expired => "expired",
            ReturnError::Revoked => "revoked",
            ReturnError::Replayed => "replayed",
            ReturnError::Unavailable => "unavailable",
        })
    }
}

/// Renews each client's ticket once in a third of its life, spread over that time, so that none gets older than two thirds;
/// looks up the rights of those who returned, many with one query. Until the process stops.
pub async fn renew(sessions: Arc<Sessions>, lifecycle: Lifecycle) {
    let ticks = (sessions.tickets.life / 3).as_secs().max(1);
    let mut due: Vec<MemberKey> = Vec::new();
    let (mut each, mut left) = (0, 0);
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let returned = std::mem::take(&mut *sessions.tickets.returned.lock());
        if !returned.is_empty() {
            let members: Vec<_> = returned.into_iter().flat_map(|user| sessions.hub.members().of(user)).collect();
            warden::check_versions(&sessions, &members).await;
            warden::check(&sessions, members).await;
        }
        if left == 0 {
            left = ticks;
            // Only who they are: a list of members would keep their sockets.
            due = sessions.hub.members().keys();
            each = due.len().div_ceil(usize::try_from(ticks).unwrap_or(1)).max(1);
        }
        left -= 1;
        for key in due.drain(due.len().saturating_sub(each)..) {
            if let Some(member) = sessions.hub.members().get(key) {
                let Member { user, session_version, generation, connection, .. } = *member;
                let identity = Identity { user, credential: Credential::Ticket, session_version, minted: None };
                sessions.tickets.give(&identity, generation, connection, &member.outbox);
            }
        }
    }
}
