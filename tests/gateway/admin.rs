//! The operations API: looking at all instances through one, and acting on all of them.

use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, GatewayBuilder, RoomSpec, Stack, TestGateway, TestRoom, TestUser, eventually};

struct House {
    stack: Stack,
    one: TestGateway,
    two: TestGateway,
    room: TestRoom,
    ada: TestUser,
    grace: TestUser,
}

fn with_token(builder: GatewayBuilder) -> GatewayBuilder {
    builder.env("GATEWAY_ADMIN_TOKEN", format!("oncall:{ADMIN_TOKEN}"))
}

async fn house() -> House {
    let stack = Stack::start().await;
    // The other one has no API of its own: it is asked all the same.
    let one = with_token(stack.gateway()).env("GATEWAY_INSTANCE", "one").start().await;
    let two = stack.gateway().env("GATEWAY_INSTANCE", "two").start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let house = House { stack, one, two, room, ada, grace };
    eventually("both are listed", || async {
        house.get("instances").await["instances"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    house
}

impl House {
    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.one.admin("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.one.admin("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
}

/// One field of each entry of a list.
fn field(list: &Value, name: &str) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|entry| entry[name].clone()).collect()
}

#[tokio::test]
async fn without_a_token_there_is_no_api() {
    let stack = Stack::start().await;
    let gateway = stack.gateway().start().await;
    for path in ["instances", "openapi.json", ""] {
        let (status, answer) = gateway.admin("GET", path, Value::Null).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn only_a_good_token_opens_it_and_never_on_the_public_listener() {
    let house = house().await;
    let ask = |token: &'static str| {
        let headers = [("Authorization", token)];
        async move { crate::support::ask(house.one.operations, "GET", "/admin/instances", &headers, "").await.unwrap() }
    };
    for token in ["", "Bearer ", "Bearer a-token-of-the-tests-that-is-long", "Basic b25jYWxsOng="] {
        let reply = ask(token).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{token}");
        assert!(reply.body.contains("\"unauthorized\""), "{}", reply.body);
    }
    assert_eq!(house.one.get("/admin/instances").await.status, 404);
    let (status, api) = house.one.admin("GET", "openapi.json", Value::Null).await;
    assert_eq!((status, &api["openapi"]), (200, &json!("3.1.0")));
    assert!(!house.one.log_lines().join("\n").contains(ADMIN_TOKEN));
}

#[tokio::test]
async fn what_is_wrong_has_a_stable_code() {
    let house = house().await;
    for (method, path, body, status, code) in [
        ("GET", "nothing", Value::Null, 404, "not_found"),
        ("DELETE", "instances", Value::Null, 405, "method_not_allowed"),
        ("GET", "drain", Value::Null, 405, "method_not_allowed"),
        ("GET", "users/ada", Value::Null, 400, "invalid_request"),
        ("GET", "sockets?limit=201", Value::Null, 400, "invalid_request"),
        ("GET", "sockets?instance=three", Value::Null, 404, "not_found"),
        ("POST", "users/7/disconnect", Value::Null, 400, "invalid_request"),
        ("POST", "notices", json!({"text": " "}), 400, "invalid_request"),
        ("POST", "notices", json!({"text": "hello", "to": "all"}), 400, "invalid_request"),
        ("POST", "users/7/log", json!({"level": "loud"}), 400, "invalid_request"),
        ("POST", "drain", json!({"instance": "two"}), 409, "other_instance"),
        ("POST", "notices", json!({"text": "x".repeat(20_000)}), 413, "body_too_large"),
    ] {
        let (got, answer) = house.one.admin(method, path, body).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn users_and_rooms_are_looked_up_on_all_instances() {
    let house = house().await;
    let _tabs = [
        house.one.enter(&house.room, &house.ada).await,
        house.two.enter(&house.room, &house.ada).await,
        house.two.enter(&house.room, &house.grace).await,
    ];
    let ada = house.get(&format!("users/{}", house.ada.id)).await;
    assert_eq!((ada["complete"].clone(), ada["unanswered"].clone()), (json!(true), json!([])));
    assert_eq!(field(&ada["sockets"], "instance"), ["one", "two"]);
    assert!(ada["sockets"][0]["since"].as_str().is_some_and(|since| since.ends_with("+00:00")), "{ada}");

    let room = house.get(&format!("rooms/{}", house.room.id)).await;
    assert_eq!((room["online"].clone(), room["sockets"].as_array().map(Vec::len)), (json!(2), Some(3)));
    assert_eq!(
        house.get(&format!("rooms/{}?limit=2", house.room.id)).await["sockets"].as_array().map(Vec::len),
        Some(2)
    );

    let first = house.get("sockets?instance=two&limit=1").await;
    assert_eq!(
        (field(&first["sockets"], "user"), first["next"].is_u64()),
        (vec![json!(house.ada.id.to_string())], true)
    );
    let rest = house.get(&format!("sockets?instance=two&limit=1&after={}", first["next"])).await;
    assert_eq!(field(&rest["sockets"], "user"), [json!(house.grace.id.to_string())]);
    assert_eq!(rest["next"], Value::Null);

    let topic = format!("room:{}", house.room.id);
    eventually("the busiest room is told", || async {
        let rooms = house.get("rooms?limit=1").await;
        rooms["rooms"] == json!([{"topic": topic, "seats": 3, "instances": {"one": 1, "two": 2}}])
    })
    .await;
}

#[tokio::test]
async fn seats_of_an_instance_that_has_gone_silent_do_not_count() {
    let house = house().await;
    let _ada = house.one.enter(&house.room, &house.ada).await;
    let topic = format!("room:{}", house.room.id);
    let mut redis = house.stack.redis().await;
    let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    let status = json!({"busiest": [{"topic": topic, "seats": 7}]});
    let said = format!("{}000 {status}", now - 10);
    redis::cmd("HSET").arg("community:instances").arg("ghost").arg(said).exec_async(&mut redis).await.unwrap();
    eventually("the room is told, without the ghost", || async {
        house.get("rooms?limit=1").await["rooms"] == json!([{"topic": topic, "seats": 1, "instances": {"one": 1}}])
    })
    .await;
    let instances = house.get("instances").await["instances"].clone();
    assert_eq!(field(&instances, "name"), ["ghost", "one", "two"]);
    assert_eq!(field(&instances, "silent"), [true, false, false]);
}

#[tokio::test]
async fn each_instance_tells_its_configuration_and_what_it_works_with() {
    let house = house().await;
    let status = house.get("instances").await["instances"][1]["status"].clone();
    let works = json!({"redis": "up", "fan_out": "up", "postgres": "up", "cache": "up", "moderation": "off"});
    assert_eq!((&status["dependencies"], &status["needs_restart"]), (&works, &json!([])));
    let config = house.get("config?instance=two").await;
    let settings = config["settings"].as_array().unwrap();
    let name = settings.iter().find(|setting| setting["name"] == "GATEWAY_INSTANCE").unwrap();
    assert_eq!((&config["instance"], &name["value"]), (&json!("two"), &json!("two")));
    assert_eq!((&config["version"], &config["lists"]), (&status["config_version"], &status["lists_version"]));
    assert_eq!(house.get("config").await["instance"], "one");
    assert_eq!(house.one.admin("GET", "config?instance=three", Value::Null).await.0, 404);
}

#[tokio::test]
async fn the_limits_that_a_user_hits_are_told() {
    let stack = Stack::start().await;
    let gateway = with_token(stack.gateway()).env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 1).start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.member(&room, &ada, "member").await;
    let mut tab = gateway.enter(&room, &ada).await;
    for _ in 0..3 {
        tab.send(json!({"type": "send_message", "content": "hello there"})).await;
    }
    tab.wait_for("error").await;
    tab.wait_for("error").await;
    let (_, found) = gateway.admin("GET", &format!("users/{}", ada.id), Value::Null).await;
    assert_eq!(
        (&found["limits"][0]["limit"], &found["limits"][0]["count"]),
        (&json!("send_message"), &json!(2)),
        "{found}"
    );
    let (_, there) = gateway.admin("GET", &format!("rooms/{}", room.id), Value::Null).await;
    assert_eq!(there["limits"], found["limits"], "those of who is there");
    assert_eq!(there["limits"][0]["user"], ada.id.to_string());
}

#[tokio::test]
async fn a_user_is_disconnected_and_kicked_everywhere_and_it_is_in_the_audit_log() {
    let house = house().await;
    let mut ada = house.two.enter(&house.room, &house.ada).await;
    let mut grace = house.two.enter(&house.room, &house.grace).await;
    house.post(&format!("users/{}/disconnect", house.ada.id), json!({})).await;
    assert_eq!(ada.expect_close().await.0, 4001);
    house.post(&format!("rooms/{}/kick", house.room.id), json!({"user": house.grace.id.to_string()})).await;
    assert_eq!(grace.expect_close().await.0, 4003);
    let line = house.one.wait_for_log("an operator acted").await;
    assert_eq!((&line["who"], &line["action"]), (&json!("oncall"), &json!("/admin/users/{user}/disconnect")), "{line}");
    assert_eq!(line["whom"], format!("user:{}", house.ada.id));
}

#[tokio::test]
async fn a_notice_reaches_a_room_or_everybody() {
    let house = house().await;
    let other = house.stack.room(RoomSpec::default()).await;
    let mut ada = house.one.enter(&house.room, &house.ada).await;
    let mut grace = house.two.enter(&other, &house.grace).await;
    house.post("notices", json!({"text": "In here only.", "room": house.room.id})).await;
    house.post("notices", json!({"text": "We move at \"noon\"."})).await;
    let there = json!({"event": "notice", "message": "In here only.", "roomId": house.room.id});
    assert_eq!(ada.wait_for("notice").await, there);
    for tab in [&mut ada, &mut grace] {
        assert_eq!(tab.wait_for("notice").await, json!({"event": "notice", "message": "We move at \"noon\"."}));
    }
    let logs = [house.one.log_lines(), house.two.log_lines()].concat().join("\n");
    assert!(!logs.contains("noon"), "what is said is not logged");
}

#[tokio::test]
async fn more_is_logged_of_one_user_or_room_for_a_while() {
    let house = house().await;
    let mut ada = house.two.enter(&house.room, &house.ada).await;
    let mut grace = house.two.enter(&house.room, &house.grace).await;
    let commands = || {
        let lines: Vec<Value> =
            house.two.log_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let commands = lines.into_iter().filter(|line: &Value| line["message"] == "a command was run");
        commands.map(|line| line["user"].as_i64().expect("a user")).collect::<Vec<i64>>()
    };
    let mut ping = async || {
        for tab in [&mut ada, &mut grace] {
            tab.send(json!({"type": "ping"})).await;
            tab.wait_for("pong").await;
        }
    };
    ping().await;
    assert_eq!(commands(), Vec::<i64>::new());

    let answer = house.post(&format!("users/{}/log", house.ada.id), json!({"level": "debug"})).await;
    assert_eq!(answer, json!({"ok": true, "seconds": 600}));
    house.two.wait_for_log("an order is obeyed").await;
    ping().await;
    eventually("it is logged", || async { commands() == [house.ada.id] }).await;

    house.post(&format!("users/{}/log", house.ada.id), json!({"level": "off"})).await;
    house.post(&format!("rooms/{}/log", house.room.id), json!({"level": "trace"})).await;
    eventually("it is obeyed", || async {
        house.two.log_lines().iter().filter(|line| line.contains("an order is obeyed")).count() == 3
    })
    .await;
    ping().await;
    eventually("both are logged", || async { commands() == [house.ada.id, house.ada.id, house.grace.id] }).await;
}

#[tokio::test]
async fn one_instance_is_drained_and_leaves_the_list() {
    let mut house = house().await;
    let mut ada = house.one.enter(&house.room, &house.ada).await;
    house.post("drain", json!({"instance": "one"})).await;
    ada.wait_for("reconnect").await;
    assert_eq!(ada.expect_close().await.0, 1001);
    assert_eq!(house.one.exit_code().await, 0);
    let listed: Vec<String> =
        redis::cmd("HKEYS").arg("community:instances").query_async(&mut house.stack.redis().await).await.unwrap();
    assert_eq!(listed, ["two"]);
}

#[tokio::test]
async fn while_redis_is_away_it_tells_of_itself() {
    let house = house().await;
    let _ada = house.one.enter(&house.room, &house.ada).await;
    house.stack.redis_server().pause().await;
    let all = house.get("instances").await;
    assert_eq!((&all["complete"], field(&all["instances"], "name")), (&json!(false), vec![json!("one")]));
    eventually("it says what is away", || async {
        let works = house.get("instances").await["instances"][0]["status"]["dependencies"].clone();
        ["redis", "fan_out", "postgres"].map(|part| works[part].clone()) == ["down", "down", "up"]
    })
    .await;
    let ada = house.get(&format!("users/{}", house.ada.id)).await;
    assert_eq!((&ada["complete"], field(&ada["sockets"], "instance")), (&json!(false), vec![json!("one")]));
    let (status, answer) = house.one.admin("POST", &format!("users/{}/disconnect", house.ada.id), json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("unavailable")));
    house.stack.redis_server().resume().await;
}
