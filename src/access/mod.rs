//! May they: grants, quotas, admission.
//!
//! [`Access::check`] is the only way to a [`Permit`], and only a permit gets a command run.

pub mod admission;
pub mod bucket;
pub mod grant;
pub mod quota;

use std::sync::Arc;
use std::time::Duration;

pub use grant::{Denied, Grant, Grants};
use quota::{Quota, QuotaError, Ticket};

use crate::domain::{RoomId, UserId};
use crate::wire::{ClientCommand, Code, Refusal};

/// When a client may try again what a dependency could not do.
const SOON: Duration = Duration::from_secs(1);

/// A command that may be run, and the grant that says so.
#[derive(Debug)]
pub struct Permit {
    command: ClientCommand,
    grant: Arc<Grant>,
    ticket: Option<Ticket>,
}

impl Permit {
    /// The command and the grant under which it runs.
    #[must_use]
    pub fn into_parts(self) -> (ClientCommand, Arc<Grant>) {
        (self.command, self.grant)
    }

    /// What the command took of a quota, to be given back if it fails through no fault of the user's.
    pub fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }
}

/// The checks of one gateway.
pub struct Access {
    grants: Grants,
    sends: Quota,
}

impl Access {
    /// `sends` bounds a user's messages.
    #[must_use]
    pub fn new(grants: Grants, sends: Quota) -> Self {
        Self { grants, sends }
    }

    /// What this instance remembers of rights.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Decides whether a command may be run now.
    ///
    /// # Errors
    /// The refusal that its sender gets.
    pub async fn check(&self, room: RoomId, user: UserId, command: ClientCommand) -> Result<Permit, Refusal> {
        let (name, client_id) = (command.name(), command.client_id().map(str::to_owned));
        self.decide(room, user, command).await.map_err(|refusal| refusal.to(name, client_id))
    }

    async fn decide(&self, room: RoomId, user: UserId, command: ClientCommand) -> Result<Permit, Refusal> {
        let grant = self.grants.of(room, user).await.map_err(|denied| refusal(&denied))?;
        let ticket = match command {
            ClientCommand::SendMessage(_) => {
                grant.may_write.map_err(Refusal::new)?;
                Some(self.take_send(user).await?)
            }
            _ => None,
        };
        Ok(Permit { command, grant, ticket })
    }

    /// Gives back what a command took that failed through no fault of the user's.
    pub async fn give_back(&self, ticket: Ticket) {
        self.sends.give_back(ticket).await;
    }

    async fn take_send(&self, user: UserId) -> Result<Ticket, Refusal> {
        self.sends.take(user).await.map_err(|error| match error {
            QuotaError::Limited(limited) => Refusal::after(Code::RateLimited, limited.retry_after),
            QuotaError::Late | QuotaError::Redis(_) => {
                tracing::warn!(%error, "a send could not be counted");
                Refusal::after(Code::Unavailable, SOON)
            }
        })
    }
}

fn refusal(denied: &Denied) -> Refusal {
    match denied {
        Denied::NotAuthenticated => Refusal::new(Code::AuthenticationRequired),
        Denied::NotFound => Refusal::new(Code::RoomNotFound),
        Denied::Forbidden => Refusal::new(Code::CannotSend),
        Denied::Unavailable(_) => Refusal::after(Code::Unavailable, SOON),
    }
}
