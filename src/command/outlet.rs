//! Where committed messages become events and leave over the bus.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all, try_join};
use tokio::time::Instant;

use super::notice;
use crate::access::Grant;
use crate::bus::{ChannelLayer, Envelope, Kind, Log, Note};
use crate::domain::{Author, Message, Micros, RoomId, ThreadId, Topic, UserId, user_ids};
use crate::handover::{Cause, Handover, Occasion, Owed, Task};
use crate::store::{Committed, Outlet, OutletError, Reserved, Subject};
use crate::telemetry::trace::{self, Context, Span};
use crate::telemetry::{Leg, Metrics};
use crate::wire::event::{self, Place};

/// How long a publish is tried again while Redis is away. What is committed is in history in any case.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// What a message's event needs beside the draft.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Who sent it, and where.
    pub grant: Arc<Grant>,
    /// The sender's own name for it.
    pub client_id: Option<String>,
    /// The span of its commit, if it is traced.
    pub trace: Option<Context>,
}

/// The writer's way to the bus, and from there to Django's consumers.
pub struct BusOutlet {
    log: Log,
    channels: ChannelLayer,
    handover: Handover,
    metrics: Arc<Metrics>,
}

impl BusOutlet {
    /// Publishes to these logs, tells Django's consumers in this layer, and hands work over to Celery.
    #[must_use]
    pub fn new(log: Log, channels: ChannelLayer, handover: Handover, metrics: Arc<Metrics>) -> Self {
        Self { log, channels, handover, metrics }
    }

    /// Notes how long a leg took that ends now.
    pub(super) fn note(&self, leg: Leg, topic: Topic, began: std::time::Instant) {
        self.metrics.leg_seconds.observe(leg, topic, began.elapsed());
    }

    /// Publishes something that is not logged. It may be lost.
    pub(super) async fn pass(&self, topic: Topic, envelope: &Envelope) {
        match self.log.pass(topic, envelope).await {
            Ok(()) => self.channels.tell(topic, &envelope.body),
            Err(error) => tracing::debug!(%topic, %error, "an event was not told"),
        }
    }

    /// Tells Django's consumers what the bus already knows.
    pub fn tell_consumers(&self, topic: Topic, event: &Bytes) {
        self.channels.tell(topic, event);
    }

    /// Publishes a change of a message, at the place that was taken for it. `user` and `shown` are the envelope's: whose
    /// event it is to those who do not see everybody.
    pub(super) async fn announce(
        &self,
        topic: Topic,
        place: Place,
        user: Option<UserId>,
        shown: Option<UserId>,
        body: Vec<u8>,
        trace: Option<Context>,
    ) {
        let envelope = Envelope {
            kind: Kind::Change,
            place: Some(place),
            user,
            shown,
            time: Micros(0),
            sent: Micros::now(),
            body: Bytes::from(body),
            online: 0,
            trace,
            arrived: None,
        };
        self.persist(topic, place, &mut [envelope], Instant::now()).await;
    }

    /// Hands over what is asked for on these occasions, for which notes were left.
    pub(super) async fn hand_over(&self, occasions: &[Occasion], owed: &[Owed]) {
        let tasks: Vec<_> = occasions.iter().flat_map(|occasion| self.handover.tasks_of(occasion)).collect();
        self.keep(&tasks, owed).await;
    }

    /// Keeps tasks again and again until it works or patience ends. Safe, because a task is kept once.
    async fn keep(&self, tasks: &[Task], paid: &[Owed]) {
        let give_up = Instant::now() + PATIENCE;
        while let Err(error) = self.handover.keep(tasks, paid).await {
            self.metrics.handover_failures_total.inc();
            if Instant::now() >= give_up {
                tracing::error!(%error, tasks = tasks.len(), "tasks could not be kept: they are made from their notes");
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Publishes again and again until it works or patience ends. Safe, because the log publishes an offset once. The events
    /// have waited for it since `since`.
    async fn persist(&self, topic: Topic, first: Place, events: &mut [Envelope], since: Instant) {
        let give_up = Instant::now() + PATIENCE;
        // Each has its own part of its own trace; the calls to Redis, made for all, belong to the first.
        let spans: Vec<_> = events.iter_mut().filter(|event| event.trace.is_some()).map(published).collect();
        let none = Span::default();
        let span = spans.first().unwrap_or(&none);
        while let Err(error) = span.within(pin!(self.log.publish(topic, first, events))).await {
            self.metrics.bus_publish_failures_total.inc();
            if Instant::now() >= give_up {
                tracing::error!(%topic, %error, "events could not be published and are seen in history only");
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.note(Leg::Publish, topic, since.into_std());
        drop(spans);
        // Only here: of all instances, the one that published an event sends it on.
        for event in events.iter().filter(|event| event.kind != Kind::Void) {
            self.channels.tell(topic, &event.body);
        }
    }
}

impl Outlet for BusOutlet {
    type Payload = Echo;

    async fn reserve(&self, wanted: &[(Topic, u32)]) -> Result<Vec<Reserved>, OutletError> {
        self.reserve_for(wanted, &[]).await
    }

    async fn reserve_for(&self, wanted: &[(Topic, u32)], subjects: &[Subject]) -> Result<Vec<Reserved>, OutletError> {
        let note = |subject: &Subject| match subject {
            Subject::New { message, .. } => Note::New(*message),
            Subject::Changed(message) | Subject::Shown(message) | Subject::Edited { message, .. } => {
                Note::Changed(*message)
            }
        };
        let notes: Vec<_> = subjects.iter().map(note).collect();
        let owed: Vec<_> = subjects.iter().filter_map(owed).collect();
        let places = try_join(self.log.reserve(wanted, &notes), self.handover.owe(&owed)).await;
        let (places, ()) = places.map_err(|error| OutletError(error.to_string()))?;
        Ok(places.into_iter().map(|place| Reserved { epoch: place.epoch, first: place.offset }).collect())
    }

    async fn publish(&self, committed: Vec<Committed<Echo>>) {
        let notices: Vec<_> = committed.iter().flat_map(notice::of_message).collect();
        let occasions: Vec<_> = committed.iter().map(occasion).collect();
        let addressed = committed.iter().filter(|message| message.draft.is_addressed());
        let owed: Vec<_> = addressed.map(|message| Owed::new(Cause::New, message.draft.id)).collect();
        let since = committed.first().map_or_else(Instant::now, |message| message.at.into());
        let mut runs: Vec<(Topic, Place, Vec<Envelope>)> = Vec::new();
        let mut counts = Counts::default();
        for message in committed {
            counts.note(&message);
            let topic = message.draft.topic;
            let envelope = envelope(message);
            let Some(place) = envelope.place else { continue };
            match runs.iter_mut().find(|(of, first, events)| continues(*of, *first, events.len(), topic, place)) {
                Some((_, _, events)) => events.push(envelope),
                None => runs.push((topic, place, vec![envelope])),
            }
        }
        let publishing = runs.iter_mut().map(|(topic, first, events)| self.persist(*topic, *first, events, since));
        join(self.hand_over(&occasions, &owed), join_all(publishing)).await;
        notice::tell(&self.log, &notices).await;
        for (room, envelope) in counts.envelopes() {
            self.pass(Topic::Room(room), &envelope).await;
        }
    }

    async fn void(&self, places: Vec<(Topic, Reserved, u32)>) {
        for (topic, reserved, count) in places {
            let first = Place { epoch: reserved.epoch, offset: reserved.first };
            self.persist(topic, first, &mut Envelope::voids(first, u64::from(count)), Instant::now()).await;
        }
    }
}

/// Begins the span of a publish, which the envelope takes with it.
fn published(event: &mut Envelope) -> Span {
    let span = Span::following(event.trace, "publish", trace::Kind::Producer, std::time::Instant::now());
    event.trace = span.context();
    span
}

/// What a batch changed in threads: the newest count of each, and who wrote if it was one alone.
#[derive(Default)]
struct Counts(Vec<(RoomId, ThreadId, i32, Micros, Option<UserId>)>);

impl Counts {
    fn note(&mut self, message: &Committed<Echo>) {
        let (draft, stored) = (&message.draft, &message.stored);
        let (Some(thread), Some(count)) = (draft.thread_id, stored.thread_count) else { return };
        match self.0.iter_mut().find(|(_, known, ..)| *known == thread) {
            Some((_, _, newest, at, author)) => {
                (*newest, *at) = (count.max(*newest), stored.created_at.max(*at));
                *author = author.filter(|author| *author == draft.author);
            }
            None => self.0.push((draft.room_id, thread, count, stored.created_at, Some(draft.author))),
        }
    }

    fn envelopes(self) -> impl Iterator<Item = (RoomId, Envelope)> {
        self.0.into_iter().map(|(room, thread, count, at, author)| {
            let body = event::thread_counted(thread, count, at);
            let told = Envelope::passing(Kind::Thread, author.unwrap_or(UserId(0)), body);
            (room, Envelope { user: author, ..told })
        })
    }
}

/// What Celery's tasks need to know of a message. Nobody is told of somebody whom they do not see.
fn occasion(message: &Committed<Echo>) -> Occasion {
    let Committed { draft, payload, stored, .. } = message;
    let grant = &payload.grant;
    let occasion = Occasion {
        cause: Cause::New,
        message: draft.id,
        author: draft.author,
        since: stored.created_at,
        dm: grant.dm.as_ref().map(|dm| dm.thread),
        others: grant.dm.iter().flat_map(|dm| dm.others.iter().copied()).collect(),
        agents: grant.dm.iter().flat_map(|dm| dm.agents.iter().copied()).collect(),
        mentioned: user_ids(&draft.mentions),
        answered: stored.reply.as_ref().and_then(|reply| reply.author_id),
    };
    occasion.without(&grant.hidden)
}

/// What Celery may be owed for what an event is about.
fn owed(subject: &Subject) -> Option<Owed> {
    match subject {
        Subject::New { message, addressed } => addressed.then(|| Owed::new(Cause::New, *message)),
        Subject::Edited { message, mentioned } => (!mentioned.is_empty()).then(|| Owed::edited(*message, mentioned)),
        // Django hands over its own when it makes them.
        Subject::Shown(message) => message.is_ours().then(|| Owed::new(Cause::Shown, *message)),
        Subject::Changed(_) => None,
    }
}

/// Says whether a place of a topic comes right after a run of events.
fn continues(of: Topic, first: Place, events: usize, topic: Topic, place: Place) -> bool {
    of == topic && first.epoch == place.epoch && first.offset + events as u64 == place.offset
}

fn envelope(committed: Committed<Echo>) -> Envelope {
    let Committed { draft, payload, stored, .. } = committed;
    let place = Place { epoch: stored.epoch, offset: stored.offset };
    let person = &payload.grant.person;
    let message = Message {
        id: draft.id,
        room_id: draft.room_id,
        thread_id: draft.thread_id,
        author: Author {
            id: Some(person.id),
            username: person.username.clone(),
            avatar_url: person.avatar_url.clone(),
        },
        content: draft.content,
        message_type: draft.message_type.to_owned(),
        attachments: draft.attachments,
        embeds: "[]".to_owned(),
        mentions: draft.mentions,
        reaction_counts: "{}".to_owned(),
        reply_to: stored.reply,
        reply_to_id: stored.reply_to_id,
        is_edited: false,
        edited_at: None,
        is_pinned: false,
        created_at: stored.created_at,
    };
    Envelope {
        kind: Kind::Message,
        place: Some(place),
        user: Some(person.id),
        shown: message.reply_to.as_ref().and_then(|reply| reply.author_id),
        time: stored.created_at,
        sent: Micros::now(),
        body: Bytes::from(event::new_message(&message, place, payload.client_id.as_deref())),
        online: 0,
        trace: payload.trace,
        arrived: None,
    }
}
