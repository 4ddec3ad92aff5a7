//! Acting: what an operator can do. Each goes to all instances as an order, and leaves a line in the log.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Admin;
use super::answer::Problem;
use super::look::Asked;
use super::route::{self, Route};
use crate::telemetry::follow;

/// The longest notice, in characters.
const LONGEST: usize = 500;
/// How long the answer to a drain has to reach the operator before the drain begins.
const FAREWELL: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    level: Level,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Off,
    Debug,
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notice {
    text: String,
    #[serde(default, deserialize_with = "present")]
    room: Option<String>,
}

/// What is there is a text: `null` is no room, and no everybody either.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    instance: String,
}

impl Admin {
    /// Does what is asked for. Returns the answer and, for the log, whom it concerned.
    pub(super) async fn act(&self, route: Route, sent: &[u8]) -> Result<(Value, String), Problem> {
        match route {
            Route::Disconnect(user) => {
                let Nothing {} = route::body(sent)?;
                self.order(json!({ "action": "disconnect", "user": user.to_string() }), format!("user:{user}")).await
            }
            Route::Kick(room) => {
                let user = route::user(&route::body::<Kick>(sent)?.user)?;
                let order = json!({ "action": "kick", "room": room, "user": user.to_string() });
                self.order(order, format!("room:{room} user:{user}")).await
            }
            Route::FollowUser(user) => {
                let level = route::body::<Follow>(sent)?.level.as_str();
                let order = json!({ "action": "follow", "user": user.to_string(), "level": level });
                self.order(order, format!("user:{user} level:{level}")).await.map(for_a_while)
            }
            Route::FollowRoom(room) => {
                let level = route::body::<Follow>(sent)?.level.as_str();
                let order = json!({ "action": "follow", "room": room, "level": level });
                self.order(order, format!("room:{room} level:{level}")).await.map(for_a_while)
            }
            Route::Notices => {
                let Notice { text, room } = route::body(sent)?;
                let blank = |letter: char| letter.is_whitespace() || letter.is_control();
                if text.chars().all(blank) || text.chars().count() > LONGEST {
                    return Err(Problem::invalid("the text has 1 to 500 characters, and not only blanks"));
                }
                let room = room.as_deref().map(route::room).transpose()?;
                let whom = room.map_or_else(|| "everybody".to_owned(), |room: Uuid| format!("room:{room}"));
                let mut order = json!({ "action": "notice", "text": text });
                if let Some(room) = room {
                    order["room"] = json!(room);
                }
                self.order(order, format!("{whom} bytes:{}", text.len())).await
            }
            Route::Drain => {
                // Behind a load balancer the request may have come to another than was meant.
                if route::body::<Drain>(sent)?.instance != self.instance.as_str() {
                    return Err(Problem::other_instance(self.instance.as_str()));
                }
                let lifecycle = self.lifecycle.clone();
                self.lifecycle.spawn(async move {
                    tokio::time::sleep(FAREWELL).await;
                    lifecycle.leave();
                });
                Ok((json!({ "ok": true }), format!("instance:{}", self.instance)))
            }
            Route::Reload => {
                let Nothing {} = route::body(sent)?;
                let (answers, unanswered, complete) = self.gather(&Asked::Reload).await;
                let answer = json!({ "instances": answers, "complete": complete, "unanswered": unanswered });
                Ok((answer, "everything".to_owned()))
            }
            _ => Err(Problem::not_found()),
        }
    }

    async fn order(&self, order: Value, whom: String) -> Result<(Value, String), Problem> {
        self.roster.order(&order).await?;
        Ok((json!({ "ok": true }), whom))
    }
}

fn for_a_while((mut answer, whom): (Value, String)) -> (Value, String) {
    answer["seconds"] = follow::LENGTH.as_secs().into();
    (answer, whom)
}
