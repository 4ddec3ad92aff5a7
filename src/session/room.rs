//! A session in a room, a conversation or one opened by its room: taking the seat, and giving it back.

use std::sync::Arc;
use std::time::Instant;

use super::resume::Replay;
use super::threads::OpenThreads;
use super::{ENTER_DEADLINE, Guest, Sessions, guards};
use crate::access::Grant;
use crate::access::admission::Admitted;
use crate::access::bucket::Bucket;
use crate::command::{Actor, Keyboard};
use crate::domain::{ConnectionId, Micros, Venue};
use crate::hub::{Judged, Member, Membership, Topics};
use crate::presence::Stay;
use crate::socket::Socket;
use crate::wire::Close;
use crate::wire::event::Place;

/// Somebody who has a seat and the state, with what they hold, given back in this order.
pub(super) struct InRoom {
    pub threads: OpenThreads,
    pub actor: Actor,
    /// As it was on entering.
    grant: Arc<Grant>,
    _present: Option<Stay>,
    _member: Membership,
    _open: guards::OpenSession,
    _admitted: Admitted,
}

impl Sessions {
    /// Takes the seat and sends the state, or what was missed since a place. `None` when that failed; the end is decided
    /// then.
    pub(super) async fn enter(
        &self,
        connection: ConnectionId,
        venue: Venue,
        guest: Guest,
        grant: Arc<Grant>,
        since: Option<Place>,
        socket: &mut Socket,
    ) -> Option<InRoom> {
        let outbox = Arc::clone(socket.outbox());
        let (topic, room, user) = (grant.topic, grant.room.id, guest.identity.user);
        let open = guards::OpenSession::count(&self.metrics, topic);
        let member = self.hub.members().add(
            &self.hub,
            Member {
                connection,
                user,
                venue,
                room: Some(room),
                topic,
                also: Topics::default(),
                session_version: guest.identity.session_version,
                generation: guest.generation,
                outbox: Arc::clone(&outbox),
                since: Micros::now(),
                watcher: None,
                judged: Judged::default(),
            },
        );
        if guest.returned {
            self.tickets.returned.lock().push(user);
        }
        if self.open.is_closed() {
            // The drain has begun and may not have seen this session, whose login or ticket is used up.
            self.tickets.give(&guest.identity, guest.generation, connection, &outbox);
            outbox.close(Close::GOING_AWAY);
            return None;
        }
        let mut ticket = None;
        if guest.returned {
            // Before what was missed, which may be long: who is cut meanwhile has used the old one up.
            self.tickets.give(&guest.identity, guest.generation, connection, &outbox);
        } else {
            ticket = self.tickets.make(&guest.identity, guest.generation, connection);
        }
        let seat = self.hub.join(topic, connection, user, &outbox, &grant.hidden);
        member.member().judged.forget();
        let replay = Replay { seat: &seat, outbox: &outbox, topic, thread: None, grant: &grant, ticket };
        let entering = tokio::time::timeout(ENTER_DEADLINE, Box::pin(self.open(venue, &replay, since)));
        let present = match socket.while_writing(entering).await {
            Ok(Ok(present)) => present,
            failed => {
                match failed {
                    Ok(Err(error)) => tracing::warn!(%topic, %error, "a room could not be entered"),
                    _ => tracing::warn!(%topic, "a room could not be entered in time"),
                }
                outbox.close(self.tickets.put_off(&guest.identity, guest.generation, connection, &outbox));
                return None;
            }
        };
        let threads = OpenThreads::new(seat, member.member());
        let (keyboard, pages) = (Keyboard::default(), Bucket::new(Instant::now()));
        let actor = Actor { connection, user, venue, topic, keyboard, pages };
        let (admitted, present) = (guest.admitted, present);
        Some(InRoom { threads, actor, grant, _present: present, _member: member, _open: open, _admitted: admitted })
    }

    /// Gives the seats back, then says that nobody types any more, then gives back the rest.
    pub(super) async fn leave(&self, room: InRoom) {
        let InRoom { threads, mut actor, grant, .. } = room;
        drop(threads);
        self.commands.leave(&mut actor, &grant).await;
    }
}
