//! Looking: instances, sockets, rooms, users. What only an instance itself knows, it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Admin;
use super::answer::Problem;
use super::route::{PAGE, Query};
use crate::domain::{ConnectionId, RoomId, UserId};
use crate::hub::Member;

/// What an instance can be asked by another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Asked {
    /// Its sockets, in the order in which they came.
    Sockets { after: u64, limit: usize },
    /// One user's sockets, and the limits that the user has hit.
    User { user: i64, limit: usize },
    /// The sockets in one room or direct conversation.
    Room { room: Uuid, limit: usize },
    /// What configuration is in force there.
    Config,
    /// To read again what can be changed while the process runs.
    Reload,
}

impl Admin {
    /// Answers a question that came over the bus.
    pub(super) async fn tell(&self, question: Value) -> Value {
        let members = self.sessions.hub.members();
        let first = ConnectionId(0);
        match serde_json::from_value(question) {
            Ok(Asked::Sockets { after, limit }) => {
                let limit = limit.min(PAGE.0);
                let mut page = members.page(ConnectionId(after), limit + 1, |_| true);
                let more = page.len() > limit;
                page.truncate(limit);
                let next = page.last().filter(|_| more).map(|member| member.connection.0);
                json!({ "sockets": self.sockets(&page), "next": next })
            }
            Ok(Asked::User { user, limit }) => {
                let mut of_user = members.of(UserId(user));
                of_user.sort_by_key(|member| member.connection);
                of_user.truncate(limit.min(PAGE.0));
                json!({ "sockets": self.sockets(&of_user), "limits": self.hits([UserId(user)]) })
            }
            Ok(Asked::Room { room, limit }) => {
                let there = |member: &Member| member.room == Some(RoomId(room)) || member.venue.id() == Some(room);
                let page = members.page(first, limit.min(PAGE.0), there);
                let users: BTreeSet<_> = page.iter().map(|member| member.user).collect();
                json!({ "sockets": self.sockets(&page), "limits": self.hits(users) })
            }
            Ok(Asked::Config) => self.config.in_force(),
            Ok(Asked::Reload) => self.config.reload().await,
            // A newer instance may know more questions.
            Err(_) => json!({ "error": "unknown question" }),
        }
    }

    fn sockets(&self, members: &[Arc<Member>]) -> Vec<Value> {
        let socket = |member: &Arc<Member>| {
            json!({
                "instance": self.instance.as_str(),
                "socket": member.connection.0,
                "user": member.user.to_string(),
                "place": member.venue.to_string(),
                "since": member.since.to_string(),
                "threads": member.also.all().len(),
                "queued_bytes": member.outbox.queued_bytes(),
            })
        };
        members.iter().map(socket).collect()
    }

    /// The limits that these users have hit here, at most a page of them.
    fn hits(&self, users: impl IntoIterator<Item = UserId>) -> Vec<Value> {
        let of = |user: UserId| self.sessions.hits.of(user).into_iter().map(move |hit| (user, hit));
        let hits = users.into_iter().flat_map(of).take(PAGE.0).map(|(user, (limit, hit))| {
            json!({
                "instance": self.instance.as_str(),
                "user": user.to_string(),
                "limit": limit,
                "count": hit.count,
                "last": hit.last.to_string(),
            })
        });
        hits.collect()
    }

    /// Asks all instances; while Redis is away, only this one.
    pub(super) async fn gather(&self, asked: &Asked) -> (BTreeMap<String, Value>, Vec<String>, bool) {
        let question = json!(asked);
        match self.roster.ask(&self.instance, None, &question).await {
            Ok((answers, unanswered)) => {
                let complete = unanswered.is_empty();
                (answers, unanswered, complete)
            }
            Err(error) => {
                tracing::warn!(%error, "the other instances cannot be asked");
                let own = Box::pin(self.tell(question)).await;
                (BTreeMap::from([(self.instance.as_str().to_owned(), own)]), Vec::new(), false)
            }
        }
    }

    pub(super) async fn instances(&self) -> Value {
        let own = json!({
            "name": self.instance.as_str(),
            "silent_ms": 0,
            "silent": false,
            "status": &*self.last.lock(),
        });
        match self.roster.all().await {
            Ok(all) => {
                let listed = all.into_iter().map(|known| {
                    let (silent_ms, silent) =
                        (u64::try_from(known.age.as_millis()).unwrap_or(u64::MAX), known.is_silent());
                    json!({ "name": known.name, "silent_ms": silent_ms, "silent": silent, "status": known.status })
                });
                json!({ "asked": self.instance.as_str(), "complete": true, "instances": listed.collect::<Vec<_>>() })
            }
            Err(error) => {
                tracing::warn!(%error, "the other instances cannot be listed");
                json!({ "asked": self.instance.as_str(), "complete": false, "instances": [own] })
            }
        }
    }

    pub(super) async fn list_sockets(&self, query: &Query) -> Result<Value, Problem> {
        let (after, limit) = (query.after()?, query.limit()?);
        self.of_one(query, Asked::Sockets { after, limit }).await
    }

    pub(super) async fn config(&self, query: &Query) -> Result<Value, Problem> {
        self.of_one(query, Asked::Config).await
    }

    /// Asks the instance that a query names, or is this one.
    async fn of_one(&self, query: &Query, asked: Asked) -> Result<Value, Problem> {
        let (name, question) = (query.text("instance").unwrap_or(self.instance.as_str()), json!(asked));
        let mut answer = if name == self.instance.as_str() {
            Box::pin(self.tell(question)).await
        } else {
            let (mut answers, _) = self.roster.ask(&self.instance, Some(name), &question).await?;
            answers
                .remove(name)
                .ok_or_else(|| Problem { message: "No such instance answers".to_owned(), ..Problem::not_found() })?
        };
        answer["instance"] = name.into();
        Ok(answer)
    }

    /// The busiest rooms and conversations, as the living instances last told.
    pub(super) async fn busiest(&self, limit: usize) -> Result<Value, Problem> {
        let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for known in self.roster.all().await?.into_iter().filter(|known| !known.is_silent()) {
            let busiest = known.status["busiest"].as_array().cloned().unwrap_or_default();
            for topic in busiest {
                if let (Some(name), Some(seats)) = (topic["topic"].as_str(), topic["seats"].as_u64()) {
                    all.entry(name.to_owned()).or_default().insert(known.name.clone(), seats);
                }
            }
        }
        let mut rooms: Vec<_> =
            all.into_iter().map(|(topic, instances)| (instances.values().sum::<u64>(), topic, instances)).collect();
        rooms.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        rooms.truncate(limit);
        let room = |(seats, topic, instances)| json!({ "topic": topic, "seats": seats, "instances": instances });
        Ok(json!({ "rooms": rooms.into_iter().map(room).collect::<Vec<_>>() }))
    }

    pub(super) async fn user(&self, user: UserId, limit: usize) -> Value {
        let (answers, unanswered, complete) = self.gather(&Asked::User { user: user.0, limit }).await;
        json!({
            "user": user.to_string(),
            "sockets": merged(&answers, "sockets", limit),
            "limits": merged(&answers, "limits", PAGE.0),
            "complete": complete,
            "unanswered": unanswered,
        })
    }

    pub(super) async fn room(&self, room: Uuid, limit: usize) -> Value {
        let (answers, unanswered, complete) = self.gather(&Asked::Room { room, limit }).await;
        let online = self.sessions.entrance.presence.online(RoomId(room)).await.ok().map(|(online, _)| online);
        json!({
            "room": room.to_string(),
            "online": online,
            "sockets": merged(&answers, "sockets", limit),
            "limits": merged(&answers, "limits", PAGE.0),
            "complete": complete,
            "unanswered": unanswered,
        })
    }
}

/// What all instances have in one list, one instance after the other.
fn merged(answers: &BTreeMap<String, Value>, list: &str, limit: usize) -> Vec<Value> {
    let lists = answers.values().filter_map(|answer| answer[list].as_array());
    lists.flatten().take(limit).cloned().collect()
}
