//! What became of offsets that were taken and never published: their owner died between the commit and the publish.
//!
//! Postgres says what was committed, the note at the offset says what it was for. Any instance may mend, and all at once:
//! the log takes an offset once. Must never declare void what Postgres was not asked about.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::bus::{BusError, Envelope, Kind, Log, Mend, Note};
use crate::domain::{Message, MessageId, Micros, Topic};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::wire::event::{self, Place};

/// Mends holes from Postgres.
pub struct Mender {
    store: Store,
    log: Log,
    metrics: Arc<Metrics>,
}

impl Mender {
    /// Reads there, publishes here.
    #[must_use]
    pub fn new(store: Store, log: Log, metrics: Arc<Metrics>) -> Self {
        Self { store, log, metrics }
    }

    async fn mend_run(&self, topic: Topic, first: Place, last: u64, give_up: bool) -> Result<(), BusError> {
        let notes = self.log.notes(topic, first.offset, last).await?;
        let ids: Vec<_> = notes.iter().flatten().map(|note| note.message()).collect();
        let found: HashMap<MessageId, Message> = match self.store.messages(&ids).await {
            Ok(found) => found.into_iter().map(|message| (message.id, message)).collect(),
            Err(error) => {
                // The hole stays until Postgres can say what it is.
                tracing::warn!(%topic, %error, "what became of an offset cannot be asked");
                return Ok(());
            }
        };
        for (offset, note) in (first.offset..=last).zip(notes) {
            let place = Place { epoch: first.epoch, offset };
            let event = match note {
                Some(Note::New(id)) => found.get(&id).map(|message| of_new(message, place)),
                // Whether it was committed cannot be told, and need not be: the message as it is now is the truth.
                Some(Note::Changed(id)) if give_up => Some(of_changed(id, found.get(&id), place)),
                _ => None,
            };
            match event {
                Some(event) => {
                    self.log.publish(topic, place, &[event]).await?;
                    self.metrics.bus_gap_events_total.with_label_values(&["postgres"]).inc();
                    tracing::warn!(%topic, offset, "an offset whose owner is gone was published from Postgres");
                }
                None if give_up => {
                    self.log.publish(topic, place, &Envelope::voids(place, 1)).await?;
                    tracing::warn!(%topic, offset, "an offset was never committed: declaring it void");
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Mend for Mender {
    fn mend(&self, topic: Topic, first: Place, last: u64, give_up: bool) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.mend_run(topic, first, last, give_up))
    }
}

fn of_new(message: &Message, place: Place) -> Envelope {
    Envelope { kind: Kind::Message, ..envelope(message, place, event::new_message(message, place, None)) }
}

fn of_changed(id: MessageId, message: Option<&Message>, place: Place) -> Envelope {
    match message {
        Some(message) => {
            Envelope { time: Micros(0), ..envelope(message, place, event::message_edited(message, place)) }
        }
        // Hidden, or gone.
        None => Envelope {
            kind: Kind::Change,
            place: Some(place),
            user: None,
            shown: None,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::from(event::message_deleted(None, id, None, place)),
            online: 0,
        },
    }
}

fn envelope(message: &Message, place: Place, body: Vec<u8>) -> Envelope {
    Envelope {
        kind: Kind::Change,
        place: Some(place),
        user: message.author.id,
        shown: message.reply_to.as_ref().and_then(|reply| reply.author_id),
        time: message.created_at,
        sent: Micros::now(),
        body: Bytes::from(body),
        online: 0,
    }
}
