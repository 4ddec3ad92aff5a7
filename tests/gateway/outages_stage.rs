//! Two instances whose dependencies have a bad day, and what must hold of them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

/// Ada and Grace in one room, on two instances.
pub struct Pair {
    pub stack: Stack,
    pub gateways: [TestGateway; 2],
    pub room: TestRoom,
    pub late: TestUser,
    pub clients: [TestClient; 2],
    people: [i64; 2],
    /// What was made well again, and when.
    healed: Option<(&'static str, Instant)>,
}

pub async fn pair() -> Pair {
    pair_with(&[]).await
}

/// The same with some variables set.
pub async fn pair_with(variables: &[(&str, String)]) -> Pair {
    Pair::on(Stack::start().await, variables).await
}

/// Sends until it is acknowledged, and returns the refusals that came before.
pub async fn send_until_stored(client: &mut TestClient, content: &str) -> Vec<Value> {
    let mut refusals = Vec::new();
    loop {
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

/// Waits for a message, unless it came already.
async fn hears(client: &mut TestClient, text: &str) {
    let is_it = |event: &Value| event["event"] == "new_message" && event["message"]["content"] == text;
    if !client.seen().iter().any(|event| serde_json::from_str(event).is_ok_and(|event| is_it(&event))) {
        client.wait_until(text, is_it).await;
    }
}

impl Pair {
    /// On a stack that is there, with some variables set.
    pub async fn on(stack: Stack, variables: &[(&str, String)]) -> Self {
        let start = || {
            let builder = stack.gateway().env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0);
            let builder = builder.env("GATEWAY_LIMIT_CONNECTS_PER_MINUTE", 0);
            variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
        };
        let gateways = [start().await, start().await];
        let room = stack.room(RoomSpec::default()).await;
        let (ada, grace, late) = (stack.user("ada").await, stack.user("grace").await, stack.user("late").await);
        let clients = [gateways[0].enter(&room, &ada).await, gateways[1].enter(&room, &grace).await];
        Self { stack, gateways, room, late, clients, people: [ada.id, grace.id], healed: None }
    }

    /// A message of the first that both hear.
    pub async fn talk(&mut self, text: &str) {
        send_until_stored(&mut self.clients[0], text).await;
        for client in &mut self.clients {
            hears(client, text).await;
        }
    }

    /// Each of the texts is stored once, and both have seen each once, in one order.
    pub async fn all_of(&mut self, texts: &[&str]) {
        for text in texts {
            assert_eq!(self.stored(text).await, 1, "{text} is stored once");
            for client in &mut self.clients {
                hears(client, text).await;
            }
        }
        for client in &self.clients {
            let seen: Vec<String> = client
                .seen()
                .iter()
                .filter_map(|event| serde_json::from_str::<Value>(event).ok())
                .filter(|event| event["event"] == "new_message")
                .map(|event| event["message"]["content"].as_str().unwrap().to_owned())
                .filter(|text| texts.contains(&text.as_str()))
                .collect();
            assert_eq!(seen, texts, "each is seen once, in order");
        }
    }

    /// Nobody was told that one of the two left.
    pub fn nobody_left(&self) {
        for client in &self.clients {
            for event in client.seen().iter().filter(|event| event.contains("user_left")) {
                let event: Value = serde_json::from_str(event).unwrap();
                let named = event
                    .as_object()
                    .unwrap()
                    .values()
                    .any(|value| self.people.map(|id| json!(id.to_string())).contains(value));
                assert!(event["event"] != "user_left" || !named, "{event}");
            }
        }
    }

    /// Says that from now on nothing stands in the way. [`Pair::works_again`] then tells how long it took, for the
    /// table of the runbook, which `tests/recovery` fills in.
    pub fn heals(&mut self, what: &'static str) {
        self.healed = Some((what, Instant::now()));
    }

    /// Both may talk, both hear it, and somebody new gets in.
    pub async fn works_again(&mut self) {
        for (at, content) in ["from one", "from two"].into_iter().enumerate() {
            send_until_stored(&mut self.clients[at], content).await;
            self.clients[1 - at].wait_until(content, |event| event["message"]["content"] == content).await;
        }
        let talking = self.healed.map(|(_, since)| since.elapsed());
        for gateway in &self.gateways {
            gateway.ready().await;
        }
        if let (Some((what, since)), Some(talking)) = (self.healed.take(), talking) {
            eprintln!("recovered | {what} | {} | {}", talking.as_millis(), since.elapsed().as_millis());
        }
        for gateway in &self.gateways {
            let dial = gateway.dial(&self.room.path()).jwt(&self.stack.jwt(&self.late));
            let mut late = dial.connect().await;
            let state = late.expect_event("room_state").await;
            let texts: Vec<_> =
                state["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
            assert!(texts.contains(&&json!("from one")) && texts.contains(&&json!("from two")), "{texts:?}");
        }
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
        for client in &mut self.clients {
            client.send(json!({"type": "send_message", "content": "lost?", "client_id": "c"})).await;
            let refusal = client.wait_for("error").await;
            assert_eq!((&refusal["code"], &refusal["clientId"]), (&json!("unavailable"), &json!("c")));
            assert!(refusal["retryAfter"].as_f64().unwrap() > 0.0, "{refusal}");
            client.send(json!({"type": "ping"})).await;
            client.wait_for("pong").await;
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
