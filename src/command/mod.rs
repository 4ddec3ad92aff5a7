//! One verb, one file. A command takes a permit and gives replies for its sender; what others see goes over the bus.

mod change;
mod decide;
mod delete;
mod directory;
mod edit;
mod enter;
mod history;
mod judge;
mod mend;
mod mention;
mod notice;
mod outlet;
mod owed;
mod past;
mod pin;
mod react;
mod receipt;
mod report;
mod resume;
mod send;
mod thread;
mod typing;

use std::sync::Arc;

pub use directory::Directory;
pub use enter::{EnterError, Entrance, Opening};
pub use mend::Mender;
pub use outlet::{BusOutlet, Echo};
pub use owed::Ledger;
pub use past::Past;
pub use resume::{Missed, Untold};
pub use typing::Keyboard;

use crate::access::bucket::Bucket;
use crate::access::once::Once;
use crate::access::quota::Quota;
use crate::access::{Grant, Nonces, Permit};
use crate::bus::Log;
use crate::domain::{ConnectionId, Micros, Topic, UserId, Venue};
use crate::moderation::Moderator;
use crate::presence::Typing;
use crate::store::{Store, Writer};
use crate::wire::{ClientCommand, Code, Refusal, event};

/// What commands work with.
pub struct Commands {
    pub store: Store,
    pub writer: Writer<Echo>,
    pub outlet: Arc<BusOutlet>,
    pub log: Log,
    pub nonces: Nonces,
    pub typing: Typing,
    /// Bounds a user's reports.
    pub reports: Quota,
    pub once: Once,
    pub moderator: Arc<Moderator>,
}

/// The session that a command comes from.
#[derive(Debug)]
pub struct Actor {
    pub connection: ConnectionId,
    pub user: UserId,
    /// What the path of its socket named.
    pub venue: Venue,
    pub topic: Topic,
    /// When it last said that it types.
    pub keyboard: Keyboard,
    /// How many pages of messages it may read now.
    pub pages: Bucket,
}

/// The replies to a command's sender, as events in JSON.
pub type Replies = Vec<Vec<u8>>;

impl Commands {
    /// Runs a permitted command to its end.
    ///
    /// # Errors
    /// The refusal that its sender gets; nothing was done then.
    pub async fn run(&self, actor: &mut Actor, permit: Permit) -> Result<Replies, Refusal> {
        let (command, grant, sending) = permit.into_parts();
        let (name, client_id) = (command.name(), command.client_id().map(str::to_owned));
        let result = match command {
            ClientCommand::Ping => Ok(vec![event::pong(Micros::now())]),
            ClientCommand::SendMessage(message) => self.send(actor, &grant, message, sending).await,
            ClientCommand::Typing { is_typing } => {
                self.type_(actor, &grant, is_typing).await;
                Ok(Vec::new())
            }
            ClientCommand::ReadReceipt { message_id } => self.mark_read(&grant, message_id).await,
            ClientCommand::Watch(_) | ClientCommand::Unwatch(_) => Err(Refusal::new(Code::WrongSocket)),
            // What a socket has missed is the session's affair: it holds the seat.
            ClientCommand::Resume(_) => Ok(Vec::new()),
            ClientCommand::RequestHistory { cursor, limit, thread } => {
                self.history(&grant, thread, cursor, limit).await
            }
            ClientCommand::EditMessage { message_id, content } => self.edit(actor, &grant, message_id, content).await,
            ClientCommand::DeleteMessage { message_id } => self.delete(actor, &grant, message_id).await,
            ClientCommand::PinMessage { message_id, pinned } => self.pin(actor, &grant, message_id, pinned).await,
            ClientCommand::React { message_id, emoji, added } => {
                self.react(actor, &grant, message_id, emoji, added).await
            }
            ClientCommand::ReportMessage { message_id, reason } => self.report(&grant, message_id, reason).await,
            ClientCommand::Thread(command) => self.thread(actor, &grant, command).await,
        };
        result.map_err(|refusal| refusal.to(name, client_id))
    }

    /// What a session leaves behind besides its seat: nobody types any more.
    pub async fn leave(&self, actor: &mut Actor, grant: &Arc<Grant>) {
        self.type_(actor, grant, false).await;
    }
}
