//! Postgres on bad days: gone, moved, read-only, full, with every connection taken, or behind a pgbouncer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::outages_stage::{Pair, pair_with, send_until_stored};
use crate::support::{ChaosProxy, Names, PgBouncer, PostgresPair, PostgresServer, RoomSpec, Stack};

/// Both instances reach Postgres through a proxy.
async fn through_a_proxy() -> (ChaosProxy, Pair) {
    let stack = Stack::start().await;
    let (address, rest) = split(&stack.database_url());
    let proxy = ChaosProxy::before(address).await;
    let pair = Pair::on(stack, &[("DATABASE_URL", rest(proxy.address))]).await;
    (proxy, pair)
}

/// Where a database is, and its URL for when it is reached elsewhere.
fn split(url: &str) -> (SocketAddr, impl Fn(SocketAddr) -> String + use<>) {
    let (before, after) = url.split_once('@').expect("a user");
    let (address, database) = after.split_once('/').expect("a database");
    let (before, database) = (before.to_owned(), database.to_owned());
    (address.parse().expect("an address"), move |address| format!("{before}@{address}/{database}"))
}

async fn refuses_but_reads(pair: &mut Pair) {
    pair.refuses_sends().await;
    for client in &mut pair.clients {
        client.send(json!({"type": "typing", "is_typing": true})).await;
        client.send(json!({"type": "ping"})).await;
        client.wait_for("pong").await;
    }
}

#[tokio::test]
async fn when_postgres_was_gone_and_came_back_all_goes_on() {
    let (proxy, mut pair) = through_a_proxy().await;
    pair.talk("before").await;
    proxy.cut();
    refuses_but_reads(&mut pair).await;
    pair.is_not_ready("postgres").await;
    pair.heals("Postgres gone, and back");
    proxy.heal();
    pair.works_again().await;
}

#[tokio::test]
async fn when_postgres_is_killed_it_is_used_again_with_all_its_data() {
    let postgres = PostgresServer::alone().await;
    let stack = Stack::on_database(PostgresServer::url(postgres.address)).await;
    let mut pair = Pair::on(stack, &[]).await;
    pair.talk("before").await;
    // People talk all the time, so that it dies while something is being written.
    for round in 0..2 {
        let back = AtomicBool::new(false);
        tokio::join!(
            async {
                postgres.kill().await;
                postgres.restart().await;
                back.store(true, Ordering::Release);
            },
            async {
                for number in 0.. {
                    pair.send(number % 2, &format!("meanwhile {round}.{number}")).await;
                    if back.load(Ordering::Acquire) {
                        break;
                    }
                }
            }
        );
    }
    pair.has_lost_nothing().await;
    postgres.kill().await;
    refuses_but_reads(&mut pair).await;
    pair.is_not_ready("postgres").await;
    pair.turns_newcomers_away().await;
    pair.heals("Postgres killed (`kill -9`) and started again on its data");
    postgres.restart().await;
    pair.works_again().await;
}

#[tokio::test]
async fn when_the_name_of_postgres_leads_to_another_address_it_is_followed() {
    const NAME: &str = "postgres.chat.test";
    let stack = Stack::start().await;
    let (postgres, _) = split(&stack.database_url());
    let old = ChaosProxy::at(SocketAddr::from(([127, 0, 0, 2], 0)), postgres).await;
    let new = ChaosProxy::at(SocketAddr::from(([127, 0, 0, 3], old.address.port())), postgres).await;
    let names = Names::of(NAME, old.address.ip());
    let url = stack.database_url().replace(&postgres.to_string(), &format!("{NAME}:{}", old.address.port()));
    let variables = [&names.variables()[..], &[("DATABASE_URL", url)]].concat();
    let mut pair = Pair::on(stack, &variables).await;
    pair.talk("before").await;
    assert_eq!(new.connections(), 0);
    names.lead(NAME, new.address.ip());
    // Nobody asks for the name as long as its connections live.
    pair.talk("the name leads elsewhere").await;
    pair.heals("the name of Postgres leads to another address, and the old one is gone");
    old.cut();
    pair.works_again().await;
    assert!(new.connections() > 0, "the new address is used");
}

#[tokio::test]
async fn a_postgres_that_falls_silent_is_waited_for() {
    let (proxy, mut pair) = through_a_proxy().await;
    pair.talk("before").await;
    proxy.fall_silent();
    refuses_but_reads(&mut pair).await;
    pair.heals("Postgres silent, and answering again");
    proxy.heal();
    pair.works_again().await;
}

/// Runs a statement about the database of this test.
async fn on_database(pair: &Pair, statement: &str) {
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(pair.stack.db()).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("ALTER DATABASE {name} {statement}"))).execute(pair.stack.db()).await.unwrap();
    let end_others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE datname = current_database() AND application_name = 'community-gateway'";
    sqlx::query(end_others).execute(pair.stack.db()).await.unwrap();
}

#[tokio::test]
async fn a_primary_that_became_a_standby_is_left_when_it_no_longer_is() {
    let mut pair = pair_with(&[]).await;
    pair.talk("before").await;
    on_database(&pair, "SET default_transaction_read_only = on").await;
    pair.refuses_sends().await;
    pair.heals("a standby that takes writes again");
    on_database(&pair, "RESET default_transaction_read_only").await;
    pair.works_again().await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let mut pair = pair_with(&[]).await;
    pair.talk("before").await;
    for statement in [
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER disk_full BEFORE INSERT ON community_message FOR EACH ROW EXECUTE FUNCTION disk_full()",
    ] {
        sqlx::query(statement).execute(pair.stack.db()).await.unwrap();
    }
    pair.refuses_sends().await;
    pair.heals("a full disk that has room again");
    sqlx::query("DROP TRIGGER disk_full ON community_message").execute(pair.stack.db()).await.unwrap();
    pair.works_again().await;
}

#[tokio::test]
async fn while_every_connection_is_taken_sends_are_refused_in_time() {
    let mut pair = pair_with(&[("GATEWAY_DB_POOL", "2".to_owned())]).await;
    pair.talk("before").await;
    // Three rooms locked by somebody else take both connections.
    let mut rooms = vec![pair.room];
    for _ in 0..2 {
        rooms.push(pair.stack.room(RoomSpec::default()).await);
    }
    let users = pair.stack.users("elsewhere", 2).await;
    let mut waiting = Vec::new();
    for (room, user) in rooms[1..].iter().zip(&users) {
        waiting.push(pair.gateways[0].enter_by_jwt(room, user).await);
    }
    let mut lock = pair.stack.db().begin().await.unwrap();
    sqlx::query("SELECT FROM community_room FOR UPDATE").execute(&mut *lock).await.unwrap();
    for client in &mut waiting {
        client.send(json!({"type": "send_message", "content": "waits", "client_id": "waits"})).await;
    }
    pair.refuses_sends().await;
    for client in &mut waiting {
        let refusal = client.wait_for("error").await;
        assert_eq!(refusal["code"], "unavailable", "{refusal}");
    }
    pair.heals("all connections of the pool free again");
    lock.rollback().await.unwrap();
    pair.works_again().await;
    for client in &mut waiting {
        send_until_stored(client, "waits").await;
    }
    assert_eq!(pair.stored("waits").await, 2);
    pair.has_lost_nothing().await;
}

#[tokio::test]
async fn behind_a_pgbouncer_in_transaction_mode_everything_works() {
    let stack = Stack::start().await;
    let bouncer = PgBouncer::start(&stack.database_url()).await;
    let variables = [("DATABASE_URL", bouncer.url()), ("GATEWAY_PGBOUNCER", "true".to_owned())];
    let mut pair = Pair::on(stack, &variables).await;
    pair.talk("before").await;
    let ada = &mut pair.clients[0];
    ada.send(json!({"type": "send_message", "content": "to be edited", "client_id": "edited"})).await;
    let ack = ada.wait_until("the ack", |event| event["event"] == "message_ack" && event["clientId"] == "edited").await;
    let id = ack["messageId"].clone();
    ada.send(json!({"type": "edit_message", "message_id": id, "content": "edited"})).await;
    pair.clients[1].wait_for("message_edited").await;
    pair.clients[1].send(json!({"type": "add_reaction", "message_id": id, "emoji": "👍"})).await;
    pair.clients[0].wait_for("reaction_updated").await;
    pair.clients[0].send(json!({"type": "request_history", "limit": 50})).await;
    let history = pair.clients[0].wait_for("message_history").await;
    assert!(history["messages"].as_array().unwrap().len() >= 2, "{history}");
    // The bouncer is restarted: its connections break, as those of Postgres would.
    pair.heals("a pgbouncer restarted");
    bouncer.restart().await;
    pair.works_again().await;
}

#[tokio::test]
async fn when_postgres_fails_over_to_its_standby_nothing_that_was_acknowledged_is_lost() {
    let postgres = PostgresPair::start().await;
    let proxy = ChaosProxy::before(postgres.primary.address).await;
    let stack = Stack::on_database(PostgresServer::url(proxy.address)).await;
    let mut pair = Pair::on(stack, &[]).await;
    for text in ["one", "two", "three"] {
        pair.talk(text).await;
    }
    postgres.primary.kill().await;
    pair.refuses_sends().await;
    // The name leads to the standby before that one leads: there is nothing but to read.
    proxy.lead_to(postgres.standby.address);
    pair.refuses_sends().await;
    pair.heals("Postgres failed over to its standby, from its promotion on");
    postgres.promote();
    pair.works_again().await;
}
