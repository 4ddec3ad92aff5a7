//! The presence socket: one for the whole app, for what concerns its user and for whom the user watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;

use super::{ENTER_DEADLINE, Guest, Sessions, guards};
use crate::access::Grant;
use crate::access::admission::{AdmissionError, Admitted};
use crate::access::bucket::{Bucket, Rate};
use crate::command::Replies;
use crate::domain::{ConnectionId, Hidden, Micros, RoomId, Topic, UserId, Venue};
use crate::hub::{Judged, Member, Membership, Seat, Topics, Version, Watcher};
use crate::presence::PresenceError;
use crate::socket::{Frame, Socket};
use crate::store::{Overview, StoreError};
use crate::wire::command::{MAX_WATCHED, Watched};
use crate::wire::event::{self, Place};
use crate::wire::{ClientCommand, Close, Code, Refusal};

/// Watches a second in the long run, and at once: each is a query of rights.
const WATCHES: (u32, u32) = (1, 10);
/// How many topics are looked up at once, in one round trip.
const AT_ONCE: usize = 500;

/// Why what somebody watches cannot be told now.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Presence(#[from] PresenceError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error("the topics were not subscribed to in time")]
    Late,
}

/// A presence socket's side of the conversation. What it watches is given up when it is dropped.
pub(super) struct Desk {
    pub user: UserId,
    watcher: Arc<Watcher>,
    bucket: Bucket,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.watcher.end();
    }
}

/// A presence socket that is served, with what it holds, given back in this order.
pub(super) struct InApp {
    _seat: Seat,
    _member: Membership,
    pub desk: Desk,
    _open: guards::OpenSession,
    _admitted: Admitted,
}

impl Sessions {
    /// Takes the seats of a presence socket and sends it its state. `None` when that failed; the end is decided then.
    pub(super) async fn enter_in_app(
        &self,
        connection: ConnectionId,
        guest: Guest,
        socket: &mut Socket,
    ) -> Option<InApp> {
        let outbox = &Arc::clone(socket.outbox());
        let user = guest.identity.user;
        let topic = Topic::User(user);
        let open = guards::OpenSession::count(&self.metrics, topic);
        let watcher = Watcher::new(&self.hub, connection, user, outbox);
        let desk = Desk { user, watcher: Arc::clone(&watcher), bucket: Bucket::new(Instant::now()) };
        let member = self.hub.members().add(
            &self.hub,
            Member {
                connection,
                user,
                venue: Venue::App,
                room: None,
                topic,
                also: Topics::default(),
                session_version: guest.identity.session_version,
                generation: guest.generation,
                outbox: Arc::clone(outbox),
                since: Micros::now(),
                watcher: Some(watcher),
                judged: Judged::default(),
            },
        );
        if self.open.is_closed() {
            // The drain has begun and may not have seen this session, whose login or ticket is used up.
            self.tickets.give(&guest.identity, guest.generation, connection, outbox);
            outbox.close(Close::GOING_AWAY);
            return None;
        }
        let seat = self.hub.join(topic, connection, user, outbox, &Hidden::default());
        desk.watcher.watch(&self.hub, [topic]);
        let entering = async {
            seat.subscribed().await;
            self.enter_app(&desk).await
        };
        let overview = match socket.while_writing(tokio::time::timeout(ENTER_DEADLINE, Box::pin(entering))).await {
            Ok(Ok(overview)) => overview,
            failed => {
                let error = failed.ok().and_then(Result::err).unwrap_or(AppError::Late);
                tracing::warn!(%topic, %error, "a presence socket could not be served");
                outbox.close(self.tickets.put_off(&guest.identity, guest.generation, connection, outbox));
                return None;
            }
        };
        let waiting = Frame::text(&event::unread(&some(overview.rooms), &some(overview.threads)));
        let ticket = self.tickets.make(&guest.identity, guest.generation, connection);
        let first: Vec<_> = [waiting].into_iter().chain(ticket).collect();
        seat.go_live(Place { epoch: 0, offset: 0 }, &first);
        Some(InApp { _seat: seat, _member: member, desk, _open: open, _admitted: guest.admitted })
    }

    /// Reads where the user belongs, watches all of it, and tells the first state.
    async fn enter_app(&self, desk: &Desk) -> Result<Overview, AppError> {
        let overview = self.commands.store.overview(desk.user).await?;
        let rooms = overview.rooms.iter().map(|(room, _)| Topic::Room(*room));
        let topics = desk.watcher.watch(&self.hub, rooms.chain(overview.partners.iter().copied().map(Topic::Online)));
        let values = self.look_up(&topics).await?;
        desk.watcher.tell(&values);
        Ok(overview)
    }

    /// Runs a command of a presence socket.
    pub(super) async fn run_app(&self, desk: &mut Desk, command: ClientCommand) -> Result<Replies, Refusal> {
        let (name, client_id) = (command.name(), command.client_id().map(str::to_owned));
        let result = match command {
            ClientCommand::Watch(wanted) => self.watch(desk, wanted).await,
            ClientCommand::Unwatch(Watched { rooms, users }) => {
                let rooms = rooms.into_iter().map(Topic::Room);
                desk.watcher.unwatch(&rooms.chain(users.into_iter().map(Topic::Online)).collect::<Vec<_>>());
                Ok(())
            }
            _ => Err(Refusal::new(Code::WrongSocket)),
        };
        result.map(|()| Vec::new()).map_err(|refusal| refusal.to(name, client_id))
    }

    async fn watch(&self, desk: &mut Desk, wanted: Watched) -> Result<(), Refusal> {
        let (rate, burst) = WATCHES;
        desk.bucket
            .take(&Rate::new(rate, burst), Instant::now())
            .map_err(|wait| Refusal::after(Code::RateLimited, wait.after))?;
        let before: BTreeSet<Topic> = desk.watcher.watched().into_iter().collect();
        let rooms: Vec<_> = wanted.rooms.into_iter().filter(|room| !before.contains(&Topic::Room(*room))).collect();
        let users: Vec<_> = wanted.users.into_iter().filter(|user| !before.contains(&Topic::Online(*user))).collect();
        // The user's own topic is among them, and does not count.
        if before.len() - 1 + rooms.len() + users.len() > MAX_WATCHED {
            return Err(Refusal::new(Code::TooManyWatched));
        }
        let looking = async {
            let pairs: Vec<_> = users.iter().map(|user| (desk.user, *user)).collect();
            let (rooms, blocked) = join(self.readable(desk.user, &rooms), self.commands.store.blocked(&pairs)).await;
            let blocked = blocked?;
            let (hidden, seen): (Vec<_>, Vec<_>) =
                users.iter().partition(|user| blocked.contains(&(desk.user, **user)));
            let topics = rooms?.into_iter().map(Topic::Room).chain(seen.into_iter().copied().map(Topic::Online));
            let topics = desk.watcher.watch(&self.hub, topics);
            let mut values = self.look_up(&topics).await?;
            // Told as one who is never there, and not watched: nobody learns who blocked.
            values.extend(hidden.into_iter().map(|user| (Topic::Online(*user), 0)));
            Ok::<_, AppError>(values)
        };
        let found = tokio::time::timeout(ENTER_DEADLINE, looking).await.unwrap_or(Err(AppError::Late));
        match found {
            Ok(values) => {
                desk.watcher.tell(&values);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "what is to be watched could not be told");
                let added: Vec<_> =
                    desk.watcher.watched().into_iter().filter(|topic| !before.contains(topic)).collect();
                desk.watcher.unwatch(&added);
                Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)))
            }
        }
    }

    /// Those of some rooms that the user may read and whose members are counted.
    pub(super) async fn readable(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomId>, StoreError> {
        let pairs: Vec<_> = rooms.iter().map(|room| (Venue::Room(*room), user)).collect();
        let admissions = self.commands.store.admissions(&pairs).await?;
        let now = Micros::now();
        let grants = admissions.into_iter().filter_map(|admission| Grant::judge(admission, now).ok());
        Ok(grants.filter(|grant| grant.dm.is_none()).map(|grant| grant.room.id).collect())
    }

    /// The numbers of topics, which must have been watched before.
    async fn look_up(&self, topics: &[Topic]) -> Result<Vec<(Topic, u64)>, AppError> {
        self.hub.subscribed(topics).await;
        self.settle(&self.hub.versions(topics)).await
    }

    /// Reads the numbers of topics from Redis; watchers are told of those that differ from what they know.
    pub(super) async fn settle(&self, topics: &[(Topic, Version)]) -> Result<Vec<(Topic, u64)>, AppError> {
        let mut values = Vec::with_capacity(topics.len());
        for topics in topics.chunks(AT_ONCE) {
            let rooms: Vec<_> = topics.iter().filter_map(|(topic, _)| room(*topic)).collect();
            let users: Vec<_> = topics.iter().filter_map(|(topic, _)| user(*topic)).collect();
            let (counts, online) = join(self.entrance.presence.counts(&rooms), self.admission.online(&users)).await;
            let (mut counts, mut online) = (counts?.into_iter(), online?.into_iter());
            for (topic, version) in topics {
                let found = match topic {
                    Topic::Room(_) => counts.next(),
                    Topic::Online(_) => online.next().map(u64::from),
                    _ => None,
                };
                values.extend(found.map(|value| (*topic, self.hub.settle(*topic, *version, value))));
            }
        }
        Ok(values)
    }
}

fn room(topic: Topic) -> Option<RoomId> {
    if let Topic::Room(room) = topic { Some(room) } else { None }
}

fn user(topic: Topic) -> Option<UserId> {
    if let Topic::Online(user) = topic { Some(user) } else { None }
}

/// Leaves out where nothing is unread.
fn some<T>(counts: Vec<(T, u32)>) -> Vec<(T, u32)> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}
