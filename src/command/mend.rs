//! What became of offsets that were taken and never published: their owner died between the commit and the publish.
//!
//! Postgres says what was committed, the note at the offset says what it was for. Any instance may mend, and all at once:
//! the log takes an offset once. Must never declare void what Postgres was not asked about.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::enter::EnterError;
use super::past::{Past, of_changed, of_new};
use crate::bus::{BusError, ChannelLayer, Envelope, Log, Mend, Note, Retelling};
use crate::domain::{Message, MessageId, Topic};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::wire::event::Place;

/// Mends holes from Postgres.
pub struct Mender {
    store: Store,
    log: Log,
    past: Past,
    channels: ChannelLayer,
    metrics: Arc<Metrics>,
}

impl Mender {
    /// Reads there, publishes here, and tells Django's consumers.
    #[must_use]
    pub fn new(store: Store, log: Log, channels: ChannelLayer, metrics: Arc<Metrics>) -> Self {
        let past = Past { store: store.clone(), log: log.clone() };
        Self { store, log, past, channels, metrics }
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
                    // Of all instances that mend, the one whose event is news tells consumers.
                    if self.log.publish(topic, place, std::slice::from_ref(&event)).await? > 0 {
                        self.channels.tell(topic, &event.body);
                    }
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

    fn retell(&self, topic: Topic, first: Place, last: u64) -> Retelling<'_> {
        Box::pin(async move {
            let told = match self.past.retell(topic, first, last).await {
                Ok(told) => told,
                Err(EnterError::Bus(error)) => return Err(error),
                Err(error) => return Err(BusError::Past(error.to_string())),
            };
            if let Some(events) = &told {
                self.metrics.bus_gap_events_total.with_label_values(&["postgres"]).inc_by(events.len() as u64);
            }
            Ok(told)
        })
    }
}
