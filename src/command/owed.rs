//! What is owed to Celery for a message, read from Postgres: for messages whose owner died, and for those that a human let
//! pass, whose senders are long gone.

use std::collections::HashMap;

use futures_util::future::{BoxFuture, join};

use super::{Commands, notice};
use crate::domain::{Hidden, Message, MessageId, Micros, UserId, Venue};
use crate::handover::{Cause, Occasion, Owed, Witness, WitnessError};
use crate::store::{Store, StoreError};

/// Reads what tasks need to know from Postgres.
pub struct Ledger {
    store: Store,
}

impl Ledger {
    /// Reads there.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Witness for Ledger {
    fn occasions<'a>(&'a self, owed: &'a [Owed]) -> BoxFuture<'a, Result<Vec<Option<Occasion>>, WitnessError>> {
        Box::pin(async move {
            let read = read(&self.store, owed).await;
            read.map_err(|error| WitnessError(error.to_string()))
        })
    }
}

impl Commands {
    /// Tells those whom a message concerns that a human let pass, and hands over what it asks for. What fails here is
    /// made up for from the note.
    pub(super) async fn hand_over_shown(&self, message: &Message) {
        let owed = [Owed::new(Cause::Shown, message.id)];
        match read(&self.store, &owed).await {
            Ok(occasions) => {
                let occasions: Vec<_> = occasions.into_iter().flatten().collect();
                let notices: Vec<_> =
                    occasions.iter().flat_map(|occasion| notice::of_shown(message, occasion)).collect();
                join(self.outlet.hand_over(&occasions, &owed), notice::tell(&self.log, &notices)).await;
            }
            Err(error) => {
                tracing::warn!(message = %message.id, %error, "the tasks of a message are made later");
            }
        }
    }
}

async fn read(store: &Store, owed: &[Owed]) -> Result<Vec<Option<Occasion>>, StoreError> {
    let ids: Vec<_> = owed.iter().map(Owed::message).collect();
    let messages = store.messages(&ids).await?;
    let told = messages.iter().filter(|message| message.message_type != "deleted");
    let told: Vec<_> = told.filter_map(|message| Some((message, message.author.id?))).collect();
    let pairs: Vec<_> = told.iter().map(|(message, author)| (Venue::Room(message.room_id), *author)).collect();
    let admissions = store.admissions(&pairs).await?;
    let found: HashMap<MessageId, _> = told
        .into_iter()
        .zip(admissions)
        .map(|((message, author), there)| (message.id, (message, author, there)))
        .collect();
    let occasion = |owed: &Owed| {
        let (message, author, there) = found.get(&owed.message())?;
        let (dm, hidden) = match &there.dm {
            Some(dm) => (Some(dm), Hidden::default()),
            None => (None, there.blocks.iter().copied().collect()),
        };
        let mentioned: Vec<UserId> = message.mentioned().into_iter().filter(|user| owed.concerns(*user)).collect();
        let occasion = Occasion {
            cause: owed.cause,
            message: message.id,
            author: *author,
            since: since(owed.cause, message),
            dm: dm.map(|dm| dm.thread),
            others: dm.map(|dm| dm.others.clone()).unwrap_or_default(),
            agents: dm.map(|dm| dm.agents.clone()).unwrap_or_default(),
            mentioned,
            answered: message.reply_to.as_ref().and_then(|reply| reply.author_id),
        };
        Some(occasion.without(&hidden))
    };
    Ok(owed.iter().map(occasion).collect())
}

/// From when on a task is news: what was let pass is news now, however long ago it was written.
pub(super) fn since(cause: Cause, message: &Message) -> Micros {
    match cause {
        Cause::New => message.created_at,
        Cause::Edited => message.edited_at.unwrap_or(message.created_at),
        Cause::Shown => Micros::now(),
    }
}
