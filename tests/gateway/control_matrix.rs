//! Every order of Django's and every right that it may change, on two instances: in force when it is ordered, and made up
//! for when the order is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::control_cases::{Case, Effect, Place, cases};
use crate::dm;
use crate::moderation_stage::Lists;
use crate::resume_replay::without_limits;
use crate::support::{GUARD, GatewayBuilder, RoomSpec, Stack, TestClient, TestGateway, TestRoom, TestUser, eventually};

/// Within which an order is in force on every instance.
const IN_FORCE: Duration = Duration::from_secs(1);

/// What becomes of an order.
#[derive(Clone, Copy)]
enum Order {
    Given,
    /// With the connection that it would have come over.
    Lost,
    /// Django changed its tables and said nothing.
    NotGiven,
}

struct Scene<'a> {
    stack: &'a Stack,
    gateways: &'a [TestGateway; 2],
    lists: &'a Lists,
    case: &'a Case,
    ada: TestUser,
    grace: TestUser,
    room: TestRoom,
    thread: Uuid,
    message: Uuid,
}

impl<'a> Scene<'a> {
    async fn of(stack: &'a Stack, gateways: &'a [TestGateway; 2], lists: &'a Lists, case: &'a Case, run: &str) -> Self {
        let name = |who: &str| format!("{who}-{run}-{}", case.name.replace([' ', ','], ""));
        let (ada, grace) = (stack.user(&name("ada")).await, stack.user(&name("grace")).await);
        // Who is new is judged in each round, for trust comes with time.
        let grown_up = "UPDATE users_user SET date_joined = now() - interval '90 days'";
        sqlx::raw_sql(grown_up).execute(stack.db()).await.unwrap();
        let closed = RoomSpec { visibility: "private", ..RoomSpec::default() };
        let (thread, room) = match case.place {
            Place::Direct => dm::conversation(stack, &[&ada, &grace]).await,
            Place::Public => (Uuid::nil(), stack.room(RoomSpec::default()).await),
            Place::Private | Place::Circle => (Uuid::nil(), stack.room(closed).await),
        };
        match case.place {
            Place::Public => stack.member(&room, &ada, "member").await,
            Place::Private => {
                stack.member(&room, &ada, "member").await;
                stack.member(&room, &grace, "member").await;
            }
            Place::Circle => circle(stack, &room, &[&ada, &grace]).await,
            Place::Direct => {}
        }
        let message = stack.messages(&room, &grace, 1).await[0];
        Self { stack, gateways, lists, case, ada, grace, room, thread, message }
    }

    fn fill(&self, template: &str) -> String {
        let all = [
            ("{ada}", self.ada.id.to_string()),
            ("{grace}", self.grace.id.to_string()),
            ("{room}", self.room.id.to_string()),
            ("{thread}", self.thread.to_string()),
            ("{message}", self.message.to_string()),
        ];
        all.iter().fold(template.to_owned(), |text, (name, id)| text.replace(name, id))
    }

    fn path(&self) -> String {
        if matches!(self.case.place, Place::Direct) { dm::path(self.thread) } else { self.room.path() }
    }

    async fn enter(&self, gateway: &TestGateway, user: &TestUser) -> TestClient {
        let mut tab = gateway.dial(&self.path()).token(&self.stack.token(user).await).connect().await;
        tab.wait_until("the state", |event| ["room_state", "dm_state"].contains(&event["event"].as_str().unwrap()))
            .await;
        tab
    }

    /// What Django writes.
    async fn change(&self) {
        match self.case.sql {
            "lists" => self.lists.set("block snarf\n"),
            "version" => {
                let key = format!("allthrive:1:session:version:{}", self.ada.id);
                redis::cmd("SET").arg(key).arg(2).exec_async(&mut self.stack.cache().await).await.unwrap();
            }
            sql => {
                let sql = sqlx::AssertSqlSafe(self.fill(sql));
                sqlx::raw_sql(sql).execute(self.stack.db()).await.unwrap();
            }
        }
    }

    /// Runs the case with its order, or with what became of that.
    #[expect(clippy::print_stdout, reason = "how long it took is for who reads the test's output")]
    async fn run(&self, order: Order) {
        let [one, two] = self.gateways;
        let mut tabs = [self.enter(one, &self.ada).await, self.enter(two, &self.ada).await];
        let mut others = [self.enter(one, &self.grace).await, self.enter(two, &self.grace).await];
        let mut tickets = Vec::new();
        for tab in &mut tabs {
            tickets.push(tab.ticket().await);
            self.try_it(tab).await; // what she may do is remembered now
        }
        let token = self.stack.token(&self.ada).await;
        if let Order::NotGiven = order {
            for gateway in self.gateways {
                // Rounds that found everything as it was: the next one looks for changes only.
                let as_before =
                    || gateway.metric("community_gateway_rights_checked_total", &[("outcome", "as_before")]);
                let before = as_before().await;
                eventually("a round", || async { as_before().await >= before + 8.0 }).await;
            }
        }
        self.change().await;
        let began = Instant::now();
        match order {
            Order::Given => self.stack.publish("community:control", self.fill(self.case.order).as_bytes()).await,
            Order::Lost => {
                let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
                kill.exec_async(&mut self.stack.redis().await).await.unwrap();
            }
            Order::NotGiven => {}
        }
        let [first, second] = &mut tabs;
        tokio::join!(self.takes_effect(first), self.takes_effect(second));
        let took = began.elapsed();
        println!("{}: in force on both after {took:?}", self.case.name);
        assert!(
            !matches!(order, Order::Given) || took < IN_FORCE,
            "{}: in force on both after {took:?}",
            self.case.name
        );
        if let Effect::Told(event) = self.case.effect {
            for other in &mut others {
                other.wait_for(event).await;
            }
        }
        for other in &mut others {
            other.send(json!({"type": "ping"})).await;
            other.wait_for("pong").await;
        }
        if let Effect::Closed { code, comes_back } = self.case.effect {
            // Each on the instance that did not give it.
            for (ticket, gateway) in tickets.iter().zip([two, one]) {
                let mut back = gateway.dial(&self.path()).query("resume_token", ticket).connect().await;
                if comes_back {
                    back.wait_for("room_state").await;
                } else {
                    assert_eq!(back.expect_close().await.0, code, "{}: with a ticket", self.case.name);
                }
            }
            // What Django gave out before is no way back either, where it is not Django that is asked anew.
            if !["disconnect", "kick"].contains(&self.case.name) {
                let mut back = two.dial(&self.path()).token(&token).connect().await;
                assert_eq!(back.expect_close().await.0, code, "{}: with a token", self.case.name);
            }
        }
    }

    async fn takes_effect(&self, tab: &mut TestClient) {
        match self.case.effect {
            Effect::Closed { code, .. } => {
                assert_eq!(tab.expect_close().await.0, code, "{}", self.case.name);
            }
            Effect::Told(event) => {
                tab.wait_for(event).await;
            }
            _ => {
                // An order is in force soon, not when it is published.
                let trying = async { while !self.try_it(tab).await {} };
                let tried = tokio::time::timeout(GUARD, trying).await;
                assert!(tried.is_ok(), "{}: not in force", self.case.name);
            }
        }
    }

    /// Does what an effect forbids or allows, and says whether the effect is there.
    async fn try_it(&self, tab: &mut TestClient) -> bool {
        let id = Uuid::new_v4().to_string();
        match self.case.effect {
            Effect::Refused(code) => {
                let text = if code == "blocked by the lists" { format!("a snarf {id}") } else { id.clone() };
                tab.send(json!({"type": "send_message", "content": text, "client_id": id})).await;
                let mine = |event: &Value| event["clientId"] == json!(id) && event["event"] != "new_message";
                let answer = tab.wait_until("an answer", mine).await;
                answer["code"] == code || (code == "blocked by the lists" && answer["action"] == "blocked")
            }
            Effect::Allowed => {
                // Another message each time, so that every try has its own answer.
                let message = self.stack.messages(&self.room, &self.grace, 1).await[0];
                tab.send(json!({"type": "delete_message", "message_id": message})).await;
                let answered = |event: &Value| event["event"] == "error" || event["messageId"] == json!(message);
                tab.wait_until("an answer", answered).await["event"] == "message_deleted"
            }
            Effect::Closed { .. } | Effect::Told(_) => true,
        }
    }
}

async fn circle(stack: &Stack, room: &TestRoom, users: &[&TestUser]) {
    let id = room.id;
    let mut sql = format!(
        "INSERT INTO thrive_circle_circle (id, name, tier, week_start, week_end, member_count, active_member_count, \
             is_active, created_at, updated_at) VALUES ('{id}', 'C', 't', now(), now(), 0, 0, true, now(), now()); \
         UPDATE community_room SET circle_id = id WHERE id = '{id}'; "
    );
    for user in users {
        sql.push_str(&format!(
            "INSERT INTO thrive_circle_circlemembership (id, is_active, joined_at, points_earned_in_circle, was_active, \
                 circle_id, user_id) VALUES (gen_random_uuid(), true, now(), 0, true, '{id}', {}); ",
            user.id
        ));
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(stack.db()).await.unwrap();
}

fn gateway(stack: &Stack, lists: &Lists) -> GatewayBuilder {
    // A right is tried again and again until it is there, and refused tries count.
    without_limits(stack).env("GATEWAY_LIMIT_CHANGES_PER_MINUTE", 0).env("GATEWAY_MODERATION_LISTS", lists.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_is_in_force_on_both_instances() {
    let (stack, lists) = (Stack::start().await, Lists::new(""));
    let gateways = [gateway(&stack, &lists).start().await, gateway(&stack, &lists).start().await];
    for case in &cases() {
        Scene::of(&stack, &gateways, &lists, case, "told").await.run(Order::Given).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_looked_up_again_when_its_order_was_lost() {
    let (stack, lists) = (Stack::start().await, Lists::new(""));
    let gateways = [gateway(&stack, &lists).start().await, gateway(&stack, &lists).start().await];
    for case in cases().iter().filter(|case| case.made_up) {
        Scene::of(&stack, &gateways, &lists, case, "lost").await.run(Order::Lost).await;
        let subscribed = || async {
            let count: (String, i64) = redis::cmd("PUBSUB")
                .arg("NUMSUB")
                .arg("community:control")
                .query_async(&mut stack.redis().await)
                .await
                .unwrap();
            count.1 == 2
        };
        eventually("both listen again", subscribed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_looked_up_again_though_nothing_was_ordered() {
    let (stack, lists) = (Stack::start().await, Lists::new(""));
    let start = || gateway(&stack, &lists).env("GATEWAY_RIGHTS_SECONDS", 0.1).start();
    let gateways = [start().await, start().await];
    let by_rounds = |case: &&Case| case.made_up && case.sql != "lists" && !matches!(case.effect, Effect::Told(_));
    for case in cases().iter().filter(by_rounds) {
        Scene::of(&stack, &gateways, &lists, case, "unsaid").await.run(Order::NotGiven).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_began_without_a_version_end_with_the_others() {
    let stack = Stack::start().await;
    let start = || without_limits(&stack).env("GATEWAY_LIMIT_CONNECTIONS_PER_USER", 20).start();
    let gateways = [start().await, start().await];
    let (room, ada, grace) =
        (stack.room(RoomSpec::default()).await, stack.user("ada").await, stack.user("grace").await);
    let mut cache = stack.cache().await;
    let key = format!("allthrive:1:session:version:{}", ada.id);
    let (mut tabs, mut stays) = (Vec::new(), Vec::new());
    for gateway in &gateways {
        // Before Django kept a version, and after.
        tabs.push(gateway.enter(&room, &ada).await);
        redis::cmd("SET").arg(&key).arg(1).exec_async(&mut cache).await.unwrap();
        // Its JWT names none.
        tabs.push(gateway.enter_by_jwt(&room, &ada).await);
        redis::cmd("DEL").arg(&key).exec_async(&mut cache).await.unwrap();
        tabs.push(gateway.enter_by_jwt(&room, &ada).await);
        stays.push(gateway.enter(&room, &grace).await);
    }
    redis::cmd("SET").arg(&key).arg(2).exec_async(&mut cache).await.unwrap();
    let mut late = gateways[0].enter_by_jwt(&room, &ada).await;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut stack.redis().await).await.unwrap();
    for tab in &mut tabs {
        assert_eq!(tab.expect_close().await, (4001, "session ended".to_owned()));
    }
    for tab in stays.iter_mut().chain([&mut late]) {
        tab.send(json!({"type": "ping"})).await;
        tab.wait_for("pong").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_ticket_is_found_out_though_redis_has_forgotten_it() {
    let stack = Stack::start().await;
    let gateway = without_limits(&stack).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let mut tab = gateway.enter(&room, &ada).await;
    let ticket = tab.ticket().await;
    let key = format!("allthrive:1:session:version:{}", ada.id);
    redis::cmd("SET").arg(&key).arg(2).exec_async(&mut stack.cache().await).await.unwrap();
    stack.order(json!({"action": "logout", "user": ada.id.to_string(), "session_version": 2})).await;
    tab.expect_close().await;
    let ended = format!("community:resume:{}", ada.id);
    let forgotten: i64 = redis::cmd("DEL").arg(&ended).query_async(&mut stack.redis().await).await.unwrap();
    assert_eq!(forgotten, 1);
    // It lets her in, for a moment: Django's word is asked for who returns.
    let mut back = gateway.dial(&room.path()).query("resume_token", &ticket).connect().await;
    assert_eq!(back.expect_close().await, (4001, "session ended".to_owned()));
}
