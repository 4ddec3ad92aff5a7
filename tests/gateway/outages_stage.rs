//! Two instances whose dependencies have a bad day, and what must hold of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Dial, GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

/// Ada and Grace in one room, on two instances.
pub struct Pair {
    pub stack: Stack,
    pub gateways: [TestGateway; 2],
    pub room: TestRoom,
    pub late: TestUser,
    pub clients: [TestClient; 2],
    pub people: [TestUser; 2],
    /// The texts that were acknowledged to the two, in this order.
    acknowledged: Vec<String>,
    /// What each was refused, and sends again when all is well.
    refused: [Option<String>; 2],
    /// What each was shown on connections that it has left.
    shown_before: [Vec<String>; 2],
    /// What was made well again, and when.
    healed: Option<(&'static str, Instant)>,
    rounds: usize,
}

pub async fn pair() -> Pair {
    pair_with(&[]).await
}

/// The same with some variables set.
pub async fn pair_with(variables: &[(&str, String)]) -> Pair {
    Pair::on(Stack::start().await, variables).await
}

/// Says how long it took until all was well again, for the table of the runbook, which `tests/recovery` fills in.
pub fn recovered(what: &str, done: Duration, ready: Option<Duration>) {
    let ready = ready.map_or_else(|| "-".to_owned(), |ready| ready.as_millis().to_string());
    eprintln!("recovered | {what} | {} | {ready}", done.as_millis());
}

/// Sends until it is acknowledged, and returns the refusals that came before.
pub async fn send_until_stored(client: &mut TestClient, content: &str) -> Vec<Value> {
    let mut refusals = Vec::new();
    // A refusal comes at once while a dependency is away: like a poll.
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        client.send(json!({"type": "send_message", "content": content, "client_id": content})).await;
        let answer = client.wait_until("an answer", |event| {
            event["clientId"] == content && (event["event"] == "message_ack" || event["event"] == "error")
        });
        match answer.await {
            event if event["event"] == "message_ack" => return refusals,
            event => refusals.push(event),
        }
    }
}

/// The state that a client was shown when it entered.
pub fn first_state(client: &TestClient) -> Value {
    let mut events = client.seen().iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    events.find(|event| event["event"] == "room_state").expect("it has entered")
}

fn contents<'a>(messages: impl Iterator<Item = &'a Value>) -> Vec<String> {
    messages.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// The texts of the messages that an event tells of: its own, or those of what was missed.
fn told(event: &Value) -> Vec<String> {
    let missed = event["events"].as_array().into_iter().flatten();
    let events = std::iter::once(event).chain(missed).filter(|event| event["event"] == "new_message");
    contents(events.map(|event| &event["message"]))
}

/// The texts of a whole state.
fn stated(event: &Value) -> Vec<String> {
    let is_state = event["event"] == "room_state";
    contents(event["messages"].as_array().into_iter().flatten().filter(|_| is_state))
}

impl Pair {
    /// On a stack that is there, with some variables set.
    pub async fn on(stack: Stack, variables: &[(&str, String)]) -> Self {
        let start = || variables.iter().fold(without_limits(&stack), |it, (name, value)| it.env(name, value)).start();
        let gateways = [start().await, start().await];
        let room = stack.room(RoomSpec::default()).await;
        let (ada, grace, late) = (stack.user("ada").await, stack.user("grace").await, stack.user("late").await);
        let clients = [gateways[0].enter(&room, &ada).await, gateways[1].enter(&room, &grace).await];
        Self {
            stack,
            gateways,
            room,
            late,
            clients,
            people: [ada, grace],
            acknowledged: Vec::new(),
            refused: [None, None],
            shown_before: [Vec::new(), Vec::new()],
            healed: None,
            rounds: 0,
        }
    }

    /// Another instance in the place of the second one, and another person in the place of Grace.
    pub async fn second_is(&mut self, builder: GatewayBuilder, user: TestUser) {
        self.gateways[1] = builder.start().await;
        self.clients[1] = self.gateways[1].enter(&self.room, &user).await;
        self.people[1] = user;
    }

    /// One of the two returns on another connection.
    pub async fn comes_back(&mut self, at: usize, dial: Dial) {
        let seen = [&self.shown_before[at], self.clients[at].seen()].concat();
        self.takes_the_place(at, self.people[at].clone(), seen, dial).await;
    }

    /// Somebody who was away returns, having seen this, and is from then on one of the two.
    pub async fn takes_the_place(&mut self, at: usize, user: TestUser, seen: Vec<String>, dial: Dial) {
        self.clients[at] = dial.connect().await;
        self.shown_before[at] = seen;
        self.people[at] = user;
    }

    /// One of the two sends until it is acknowledged.
    pub async fn send(&mut self, at: usize, text: &str) {
        send_until_stored(&mut self.clients[at], text).await;
        self.note(text);
    }

    /// Notes what was acknowledged to one of the two.
    pub fn note(&mut self, text: &str) {
        assert!(!self.acknowledged.iter().any(|known| known == text), "{text} is said twice");
        self.acknowledged.push(text.to_owned());
    }

    /// A message of the first that both are shown.
    pub async fn talk(&mut self, text: &str) {
        self.send(0, text).await;
        self.both_are_shown(text).await;
    }

    /// Waits until both have been shown a message, in whatever way, unless they have.
    pub async fn both_are_shown(&mut self, text: &str) {
        let shows = |event: &Value| told(event).iter().chain(&stated(event)).any(|shown| shown == text);
        for (client, before) in self.clients.iter_mut().zip(&self.shown_before) {
            let mut known = before.iter().chain(client.seen());
            if !known.any(|event| shows(&serde_json::from_str(event).unwrap())) {
                client.wait_until(text, shows).await;
            }
        }
    }

    /// What must hold whatever happened: each message that was acknowledged is stored once; both have been shown it,
    /// as an event at most once, in one order; nobody was told that one of the two left; pings are answered.
    pub async fn has_lost_nothing(&mut self) {
        assert!(!self.acknowledged.is_empty(), "something was said");
        for text in self.acknowledged.clone() {
            assert_eq!(self.stored(&text).await, 1, "{text} is stored once");
            self.both_are_shown(&text).await;
        }
        for client in &mut self.clients {
            client.send(json!({"type": "ping"})).await;
            client.wait_for("pong").await;
        }
        for (client, before) in self.clients.iter().zip(&self.shown_before) {
            let events: Vec<Value> =
                before.iter().chain(client.seen()).map(|event| serde_json::from_str(event).unwrap()).collect();
            let place = |text: &String| self.acknowledged.iter().position(|known| known == text);
            let is_in_order = |texts: Vec<String>| {
                let places: Vec<_> = texts.iter().filter_map(place).collect();
                assert!(places.is_sorted_by(|one, next| one < next), "not once, or not in order: {texts:?}");
            };
            is_in_order(events.iter().flat_map(told).collect());
            events.iter().map(stated).for_each(is_in_order);
        }
        self.nobody_left();
    }

    /// Nobody was told that one of the two left.
    fn nobody_left(&self) {
        let people: HashSet<String> = self.people.iter().map(|user| user.id.to_string()).collect();
        for client in &self.clients {
            for event in client.seen().iter().filter(|event| event.contains("user_left")) {
                let event: Value = serde_json::from_str(event).unwrap();
                let is_one = event["userId"].as_str().is_some_and(|id| people.contains(id));
                assert!(event["event"] != "user_left" || !is_one, "{event}");
            }
        }
    }

    /// Says that from now on nothing stands in the way. [`Pair::works_again`] then tells how long it took.
    pub fn heals(&mut self, what: &'static str) {
        self.healed = Some((what, Instant::now()));
    }

    /// Both may talk, both hear it, somebody new gets in and sees it; what was refused is not stored, and is one message
    /// when it is sent again under its name; and nothing is lost.
    pub async fn works_again(&mut self) {
        self.rounds += 1;
        let texts = ["one", "two"].map(|who| format!("from {who}, {}", self.rounds));
        for (at, text) in texts.iter().enumerate() {
            self.send(at, text).await;
            self.both_are_shown(text).await;
        }
        let talking = self.healed.map(|(_, since)| since.elapsed());
        for gateway in &self.gateways {
            gateway.ready().await;
        }
        if let (Some((what, since)), Some(talking)) = (self.healed.take(), talking) {
            recovered(what, talking, Some(since.elapsed()));
        }
        for gateway in &self.gateways {
            let dial = gateway.dial(&self.room.path()).jwt(&self.stack.jwt(&self.late));
            let mut late = dial.connect().await;
            let state = stated(&late.expect_event("room_state").await);
            assert!(texts.iter().all(|text| state.contains(text)), "{state:?}");
        }
        for at in 0..2 {
            if let Some(text) = self.refused[at].take() {
                assert_eq!(self.stored(&text).await, 0, "a refused message is not stored");
                self.send(at, &text).await;
            }
        }
        self.has_lost_nothing().await;
    }

    pub async fn is_not_ready(&self, part: &str) {
        for gateway in &self.gateways {
            eventually("the gateway is not ready", || async {
                let reply = gateway.ops("/readyz").await;
                reply.status == 503 && reply.body.contains(part)
            })
            .await;
        }
    }

    /// A send is refused, politely; pings are answered.
    pub async fn refuses_sends(&mut self) {
        for (at, client) in self.clients.iter_mut().enumerate() {
            let text = format!("refused to {at}, {}", self.rounds);
            client.send(json!({"type": "send_message", "content": text, "client_id": text})).await;
            let refusal = client.wait_for("error").await;
            assert_eq!((&refusal["code"], &refusal["clientId"]), (&json!("unavailable"), &json!(text)));
            assert!(refusal["retryAfter"].as_f64().unwrap() > 0.0, "{refusal}");
            client.send(json!({"type": "ping"})).await;
            client.wait_for("pong").await;
            self.refused[at] = Some(text);
        }
    }

    pub async fn turns_newcomers_away(&self) {
        for gateway in &self.gateways {
            let dial = gateway.dial(&self.room.path()).jwt(&self.stack.jwt(&self.late));
            assert_eq!(dial.connect().await.expect_close().await.0, 1013);
        }
    }

    pub async fn stored(&self, content: &str) -> i64 {
        let count = "SELECT count(*) FROM community_message WHERE content = $1";
        sqlx::query_scalar(count).bind(content).fetch_one(self.stack.db()).await.unwrap()
    }
}

/// An instance to be started that limits neither messages nor connects.
pub fn without_limits(stack: &Stack) -> GatewayBuilder {
    stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0).env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0)
}
