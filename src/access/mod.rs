//! May they: grants, quotas, admission.
//!
//! [`Access::check`] is the only way to a [`Permit`], and only a permit gets a command run.

pub mod address;
pub mod admission;
pub mod bucket;
pub mod clock;
pub mod content;
pub mod grant;
pub mod hits;
mod memory;
pub mod nonce;
pub mod once;
pub mod quota;
pub mod returns;

use std::sync::Arc;
use std::time::Duration;

pub use content::AttachmentRules;
pub use grant::{Denied, Grant, Grants};
pub use hits::{Hit, Hits};
use nonce::Claim;
pub use nonce::{Nonce, Nonces};
use quota::{Quota, QuotaError, Ticket, Window};

use crate::domain::{ConnectionId, RoomId, Trust, UserId, Venue};
use crate::keyspace;
use crate::store::{Sent, Store};
use crate::text::has_link;
use crate::wire::command::{SendMessage, ThreadCommand};
use crate::wire::{ClientCommand, Code, Refusal};

/// When a client may try again what a dependency could not do.
const SOON: Duration = Duration::from_secs(1);

/// A command that may be run, and the grant that says so.
#[derive(Debug)]
pub struct Permit {
    command: ClientCommand,
    grant: Arc<Grant>,
    tickets: Vec<Ticket>,
    sending: Option<Sending>,
}

/// How a send that has a `client_id` stands.
#[derive(Debug)]
pub enum Sending {
    /// It was acknowledged before: this is the ack in JSON.
    Acknowledged(Vec<u8>),
    /// It is stored, but nobody knows of an ack.
    Stored { nonce: Nonce, sent: Sent },
    /// It is to be written with the nonce's id.
    Unsent(Nonce),
}

impl Permit {
    /// The command, the grant under which it runs, and how it stands if it is a send with a `client_id`.
    #[must_use]
    pub fn into_parts(self) -> (ClientCommand, Arc<Grant>, Option<Sending>) {
        (self.command, self.grant, self.sending)
    }

    /// What the command took of a quota, to be given back if it fails through no fault of the user's.
    pub fn take_tickets(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.tickets)
    }
}

/// The checks of one gateway.
pub struct Access {
    pub store: Store,
    /// What this instance remembers of rights.
    pub grants: Grants,
    /// Bounds a user's messages.
    pub sends: Quota,
    /// Bounds what a user adds to messages and takes from them.
    pub reactions: Quota,
    /// Bounds how often a user edits, deletes, pins, locks and archives.
    pub changes: Quota,
    pub nonces: Nonces,
    pub attachments: AttachmentRules,
}

impl Access {
    /// What this instance remembers of rights.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Decides whether a command may be run now.
    ///
    /// # Errors
    /// The refusal that its sender gets.
    pub async fn check(
        &self,
        connection: ConnectionId,
        venue: Venue,
        user: UserId,
        command: ClientCommand,
    ) -> Result<Permit, Refusal> {
        let (name, client_id) = (command.name(), command.client_id().map(str::to_owned));
        self.decide(connection, venue, user, command).await.map_err(|refusal| refusal.to(name, client_id))
    }

    async fn decide(
        &self,
        connection: ConnectionId,
        venue: Venue,
        user: UserId,
        command: ClientCommand,
    ) -> Result<Permit, Refusal> {
        let grant = self.grants.of(venue, user).await.map_err(|denied| refusal(&denied))?;
        let mut sending = None;
        let tickets = match &command {
            ClientCommand::SendMessage(message) => {
                sending = self.look_up(connection, &grant, message).await?;
                match self.check_unless_sent(&grant, message, sending.as_ref()).await {
                    Ok(tickets) => tickets,
                    Err(refusal) => {
                        if let Some(Sending::Unsent(nonce)) = &sending {
                            self.nonces.release(nonce).await;
                        }
                        return Err(refusal);
                    }
                }
            }
            ClientCommand::React { .. } => vec![self.check_reaction(&grant).await?],
            ClientCommand::EditMessage { content, .. } => {
                check_text(&grant, content)?;
                vec![self.take_change(user).await?]
            }
            ClientCommand::DeleteMessage { .. } => {
                check_open(&grant)?;
                vec![self.take_change(user).await?]
            }
            ClientCommand::PinMessage { .. } => {
                check_moderates(&grant)?;
                vec![self.take_change(user).await?]
            }
            ClientCommand::Thread(command) => self.check_thread(&grant, command).await?,
            ClientCommand::Ping
            | ClientCommand::Typing { .. }
            | ClientCommand::ReadReceipt { .. }
            | ClientCommand::RequestHistory { .. }
            | ClientCommand::ReportMessage { .. }
            | ClientCommand::Resume(_)
            | ClientCommand::Watch(_)
            | ClientCommand::Unwatch(_) => Vec::new(),
        };
        Ok(Permit { command, grant, tickets, sending })
    }

    /// Gives back what a command took that failed through no fault of the user's.
    pub async fn give_back(&self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            self.sends.give_back(ticket).await;
        }
    }

    /// Finds out whether a message was sent before, by its `client_id`.
    async fn look_up(
        &self,
        connection: ConnectionId,
        grant: &Grant,
        message: &SendMessage,
    ) -> Result<Option<Sending>, Refusal> {
        let Some(client_id) = &message.client_id else { return Ok(None) };
        let author = grant.person.id;
        let unavailable = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "a `client_id` could not be looked up");
            Refusal::after(Code::Unavailable, SOON)
        };
        let claim = self.nonces.claim(connection, author, client_id).await;
        Ok(Some(match claim.map_err(|error| unavailable(&error))? {
            Claim::Stored(ack) => Sending::Acknowledged(ack),
            Claim::New(nonce) => Sending::Unsent(nonce),
            Claim::Again(nonce) => match self.store.sent_at(nonce.id, author).await {
                Ok(Some(sent)) => Sending::Stored { nonce, sent },
                Ok(None) => Sending::Unsent(nonce),
                Err(error) => {
                    self.nonces.release(&nonce).await;
                    return Err(unavailable(&error));
                }
            },
        }))
    }

    /// Checks a send; what is stored already is not checked and not counted again.
    async fn check_unless_sent(
        &self,
        grant: &Grant,
        message: &SendMessage,
        sending: Option<&Sending>,
    ) -> Result<Vec<Ticket>, Refusal> {
        match sending {
            Some(Sending::Acknowledged(_) | Sending::Stored { .. }) => Ok(Vec::new()),
            Some(Sending::Unsent(_)) | None => self.check_send(grant, message).await,
        }
    }

    /// What a send may hold, slow mode, and the quota: what costs nothing first, what is counted last.
    async fn check_send(&self, grant: &Grant, message: &SendMessage) -> Result<Vec<Ticket>, Refusal> {
        check_text(grant, &message.content)?;
        if grant.trust == Trust::New && !message.attachments.is_empty() {
            return Err(Refusal::new(Code::AttachmentsNotAllowed));
        }
        if !message.attachments.iter().all(|attachment| self.attachments.allow(attachment)) {
            return Err(Refusal::new(Code::InvalidAttachments));
        }
        let user = grant.person.id;
        let slow = match slow_mode(grant) {
            Some(window) => Some(self.take_slow(grant.room.id, user, window).await?),
            None => None,
        };
        match self.take_send(user).await {
            Ok(ticket) => Ok(slow.into_iter().chain([ticket]).collect()),
            Err(refusal) => {
                self.give_back(slow.into_iter().collect()).await;
                Err(refusal)
            }
        }
    }

    /// Conversations have no threads; a new one is written, and counts as a message; moderators lock and archive.
    async fn check_thread(&self, grant: &Grant, command: &ThreadCommand) -> Result<Vec<Ticket>, Refusal> {
        match command {
            ThreadCommand::Close(_) => {}
            _ if grant.dm.is_some() => return Err(Refusal::new(Code::NotAllowed)),
            ThreadCommand::Open(..) => {}
            ThreadCommand::Lock { .. } | ThreadCommand::Archive { .. } => {
                check_moderates(grant)?;
                return Ok(vec![self.take_change(grant.person.id).await?]);
            }
            ThreadCommand::Create { title, .. } => {
                check_text(grant, title.as_deref().unwrap_or_default())?;
                return Ok(vec![self.take_send(grant.person.id).await?]);
            }
        }
        Ok(Vec::new())
    }

    async fn check_reaction(&self, grant: &Grant) -> Result<Ticket, Refusal> {
        grant.may_write.map_err(Refusal::new)?;
        self.reactions.take(grant.person.id).await.map_err(|error| limited(&error, Code::RateLimited))
    }

    async fn take_change(&self, user: UserId) -> Result<Ticket, Refusal> {
        self.changes.take(user).await.map_err(|error| limited(&error, Code::RateLimited))
    }

    async fn take_slow(&self, room: RoomId, user: UserId, window: Window) -> Result<Ticket, Refusal> {
        let taken = self.sends.take_of("slow_mode", keyspace::slow_mode(room, user), &[window]).await;
        taken.map_err(|error| limited(&error, Code::SlowMode))
    }

    async fn take_send(&self, user: UserId) -> Result<Ticket, Refusal> {
        self.sends.take(user).await.map_err(|error| limited(&error, Code::RateLimited))
    }
}

/// Who may write at all, and what a text may hold: the same for a new message and for an edit.
fn check_text(grant: &Grant, text: &str) -> Result<(), Refusal> {
    grant.may_write.map_err(Refusal::new)?;
    if grant.trust == Trust::New && has_link(text) {
        return Err(Refusal::new(Code::LinksNotAllowed));
    }
    Ok(())
}

/// An archived room is only read.
fn check_open(grant: &Grant) -> Result<(), Refusal> {
    if grant.room.is_archived { Err(Refusal::new(Code::Archived)) } else { Ok(()) }
}

/// Moderators only, in a room that is not archived.
fn check_moderates(grant: &Grant) -> Result<(), Refusal> {
    check_open(grant)?;
    if grant.moderates { Ok(()) } else { Err(Refusal::new(Code::NotAllowed)) }
}

/// The window of a room's slow mode for a user, if one applies: doubled for the new, none for the trusted.
fn slow_mode(grant: &Grant) -> Option<Window> {
    let seconds = u64::try_from(grant.room.slow_mode_seconds).ok().filter(|seconds| *seconds > 0)?;
    let seconds = match grant.trust {
        Trust::New => seconds * 2,
        Trust::Member => seconds,
        Trust::Trusted => return None,
    };
    Some(Window { length: Duration::from_secs(seconds), places: 1 })
}

fn limited(error: &QuotaError, code: Code) -> Refusal {
    match error {
        QuotaError::Limited(limited) => Refusal::after(code, limited.retry_after),
        QuotaError::Late | QuotaError::Redis(_) => {
            tracing::warn!(%error, "a command could not be counted");
            Refusal::after(Code::Unavailable, SOON)
        }
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
