//! The operations API: who is connected where, and what an operator can do about it, while everything runs.
//!
//! Owns the routes below `/admin/` of the private listener, their bearer tokens and the audit log. Must never be on the
//! public listener, never log a token or what people write, and never change anything but by an order that all instances
//! obey alike (a drain is this instance's own).

mod act;
mod answer;
mod look;
mod route;
mod status;
mod token;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::bus::Roster;
use crate::domain::{InstanceName, Micros};
use crate::http::{AdminAnswer, AdminRequest};
use crate::lifecycle::Lifecycle;
use crate::session::{Errand, Question, Sessions};
use crate::telemetry::{Health, Metrics};
use answer::Problem;
use route::{Query, Route};
pub use token::Tokens;

/// Requests that may wait to be looked at.
pub const REQUESTS: usize = 16;
/// Questions of other instances and orders to reload that may wait.
pub const ERRANDS: usize = 64;

/// The API's description.
const OPENAPI: &str = include_str!("openapi.json");
/// The operator's page: it asks for a token itself, and speaks to the API only.
const PAGE: &str = include_str!("page.html");

/// Reads the configuration again, and knows what is in force.
pub trait Reload: Send + Sync + 'static {
    /// Reads all of it again, and says what came of it.
    fn reload(&self) -> BoxFuture<'_, Value>;

    /// What is in force, secrets masked.
    fn in_force(&self) -> Value;

    /// How often that has changed, counted from 1.
    fn version(&self) -> i64;

    /// What was changed and is not in force before a restart.
    fn needs_restart(&self) -> Vec<&'static str>;

    /// The version of the moderation lists in force.
    fn lists(&self) -> String;
}

/// What the API works with.
pub struct Admin {
    tokens: Arc<Tokens>,
    config: Arc<dyn Reload>,
    instance: InstanceName,
    started: Micros,
    sessions: Arc<Sessions>,
    roster: Roster,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
    /// What this instance last said of itself.
    last: Mutex<Value>,
}

impl Admin {
    /// The API of one instance. Without tokens it answers nobody but other instances.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "the parts of a gateway that operators look at")]
    pub fn new(
        tokens: Arc<Tokens>,
        config: Arc<impl Reload>,
        instance: InstanceName,
        sessions: Arc<Sessions>,
        roster: Roster,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        lifecycle: Lifecycle,
    ) -> Self {
        let last = Mutex::new(json!({}));
        Self { tokens, config, instance, started: Micros::now(), sessions, roster, health, metrics, lifecycle, last }
    }

    /// Answers operators and other instances, and tells how this one is, until the process stops.
    pub async fn run(
        self: Arc<Self>,
        mut requests: mpsc::Receiver<AdminRequest>,
        mut errands: mpsc::Receiver<Errand>,
        lifecycle: Lifecycle,
    ) {
        let beating = Arc::clone(&self);
        let answering = async {
            loop {
                tokio::select! {
                    Some(request) = requests.recv() => {
                        let admin = Arc::clone(&self);
                        lifecycle.spawn(async move { admin.serve(request).await });
                    }
                    Some(errand) = errands.recv() => {
                        let admin = Arc::clone(&self);
                        lifecycle.spawn(async move {
                            match errand {
                                Errand::Answer(question) => admin.reply(question).await,
                                Errand::Reload => _ = admin.config.reload().await,
                            }
                        });
                    }
                    () = lifecycle.aborted() => return,
                }
            }
        };
        futures_util::future::join(answering, beating.beat(&lifecycle)).await;
    }

    async fn reply(&self, Question { id, instance, question }: Question) {
        if instance.is_some_and(|name| name != self.instance.as_str()) {
            return;
        }
        let answer = self.tell(question).await;
        if let Err(error) = self.roster.answer(id, &self.instance, &answer).await {
            tracing::debug!(%error, "an operator's question was not answered");
        }
    }

    async fn serve(&self, request: AdminRequest) {
        let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
        let (route, answer) = match Route::find(&request.path) {
            _ if self.tokens.is_off() => ("none", Problem::not_found().into()),
            // It tells nothing of anybody, so it needs no token.
            _ if request.path == "/admin/" && is_read => ("/admin/", answer::page(PAGE)),
            Ok(route) => (route.template(), self.answer(route, &request).await),
            Err(problem) => {
                let who = self.authorise(&request);
                ("none", who.map_or_else(Into::into, |_| problem.into()))
            }
        };
        self.metrics.admin_requests_total.with_label_values(&[route, status_label(answer.status)]).inc();
        // Who asked may have gone away.
        let _ = request.reply.send(answer);
    }

    fn authorise(&self, request: &AdminRequest) -> Result<String, Problem> {
        let who = request.bearer.as_deref().and_then(|bearer| self.tokens.name_of(bearer));
        who.ok_or_else(|| {
            self.tokens.complain();
            Problem::unauthorized()
        })
    }

    async fn answer(&self, route: Route, request: &AdminRequest) -> AdminAnswer {
        let who = match self.authorise(request) {
            Ok(who) => who,
            Err(_) if route.is_open() => String::new(),
            Err(problem) => return problem.into(),
        };
        let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
        let fits = if route.acts() { request.method == "POST" } else { is_read };
        if !fits {
            return answer::not_allowed(route.allow());
        }
        if route.acts() {
            return self.act_and_tell(route, &who, &request.body).await;
        }
        self.look(route, &request.query).await.map_or_else(Into::into, |found| answer::json(200, &found))
    }

    /// The audit log: who did what to whom, and whether it went well.
    async fn act_and_tell(&self, route: Route, who: &str, body: &[u8]) -> AdminAnswer {
        match self.act(route, body).await {
            Ok((done, whom)) => {
                tracing::info!(who, action = route.template(), whom, "an operator acted");
                answer::json(200, &done)
            }
            Err(problem) => {
                tracing::info!(who, action = route.template(), code = problem.code, "an operator could not act");
                problem.into()
            }
        }
    }

    async fn look(&self, route: Route, query: &str) -> Result<Value, Problem> {
        let none = || Query::read(query, &[]);
        let limited = || Query::read(query, &["limit"]).and_then(|query| query.limit());
        match route {
            Route::OpenApi => {
                none()?;
                serde_json::from_str(OPENAPI).map_err(|_| Problem::not_found())
            }
            Route::Instances => {
                none()?;
                Ok(self.instances().await)
            }
            Route::Config => self.config(&Query::read(query, &["instance"])?).await,
            Route::Sockets => self.list_sockets(&Query::read(query, &["instance", "after", "limit"])?).await,
            Route::Rooms => self.busiest(limited()?).await,
            Route::User(user) => Ok(self.user(user, limited()?).await),
            Route::Room(room) => Ok(self.room(room, limited()?).await),
            _ => Err(Problem::not_found()),
        }
    }
}

fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        404 => "404",
        405 => "405",
        409 => "409",
        503 => "503",
        _ => "other",
    }
}
