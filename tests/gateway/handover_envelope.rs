//! What is pushed to Celery: the golden samples against the check, and everything that is written against it too.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use community_gateway::domain::{MessageId, Micros, ThreadId, UserId};
use community_gateway::handover::envelope::{check, write};
use community_gateway::handover::{Cause, Names, Occasion, Purpose, Task};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The samples of Celery, each with its bytes.
fn samples() -> Vec<(Value, Vec<u8>)> {
    let index: Value = serde_json::from_slice(&fs::read(golden("index.json")).unwrap()).unwrap();
    let all: Vec<_> = index["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| sample["group"] == "celery")
        .map(|sample| (sample.clone(), fs::read(golden(sample["file"].as_str().unwrap())).unwrap()))
        .collect();
    assert_eq!(all.len(), 40, "the index is whole");
    all
}

#[test]
fn what_stops_a_worker_is_never_let_through() {
    let mut hazards = 0;
    for (sample, bytes) in samples().iter().filter(|(sample, _)| sample["expect"] == "never_write") {
        assert!(check(bytes, "celery").is_err(), "{} was {}", sample["name"], sample["observed"]);
        hazards += 1;
    }
    assert_eq!(hazards, 25);
}

#[test]
fn what_celery_and_workers_take_is_let_through() {
    for (sample, bytes) in samples().iter().filter(|(sample, _)| sample["expect"] == "value") {
        let name = sample["name"].as_str().unwrap();
        // The least that runs, and a body without base64: a worker takes them, and we do not write them.
        let unlike_ours = ["crafted_demo_minimal", "crafted_demo_plain_body"].contains(&name);
        let list = sample["redis_list"].as_str().unwrap().split('\u{6}').next().unwrap();
        assert_eq!(check(bytes, list).is_err(), unlike_ours, "{name}");
        assert!(check(bytes, "elsewhere").is_err(), "{name}: its list is not its queue");
    }
}

#[test]
fn an_agents_task_is_the_one_that_a_worker_ran() {
    let (sample, bytes) = samples().into_iter().find(|(sample, _)| sample["name"] == "crafted_demo").unwrap();
    let mut expected: Value = serde_json::from_slice(&bytes).unwrap();
    let (message, thread) = ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "9b2de6a1-7a0e-4c58-8a51-6f0f1f9f4a77");
    let task = Task::new(
        Purpose::AgentDm,
        ("core.community.tasks.demo", "celery"),
        MessageId(message.parse().unwrap()),
        Some(ThreadId(thread.parse().unwrap())),
        UserId(42),
        Micros(1_800_000_600_000_000),
    );
    let mut written: Value =
        serde_json::from_slice(&write(&task, "gateway@host", Micros(1_800_000_000_000_000))).unwrap();
    let body = |element: &Value| -> Value {
        serde_json::from_slice(&BASE64.decode(element["body"].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(body(&written), body(&expected), "{}", sample["name"]);
    assert_eq!(written["headers"]["expires"], "2027-01-15T08:10:00.000000+00:00");
    assert_eq!(written["properties"]["expiration"], "600000");
    let tag = written["properties"]["delivery_tag"].as_str().unwrap();
    assert_ne!(tag, task.id.to_string(), "new for each element");
    // What differs from sample to sample.
    for element in [&mut written, &mut expected] {
        element["body"] = json!(null);
        element["headers"]["expires"] = json!(null);
        for (part, name) in [
            ("headers", "id"),
            ("headers", "root_id"),
            ("properties", "correlation_id"),
            ("properties", "delivery_tag"),
        ] {
            assert!(element[part][name].as_str().unwrap().parse::<Uuid>().is_ok());
            element[part][name] = json!(null);
        }
        element["properties"].as_object_mut().unwrap().remove("expiration");
    }
    assert_eq!(written, expected);
}

fn names() -> Names {
    Names {
        agent_dm: "core.community.tasks.process_agent_dm_task".to_owned(),
        mention: "t.mention".to_owned(),
        reply: "t.reply".to_owned(),
        dm: "t.dm".to_owned(),
        queue: "celery".to_owned(),
        notice_queue: "notices".to_owned(),
    }
}

fn occasion() -> Occasion {
    Occasion {
        message: MessageId(Uuid::from_u128(1)),
        author: UserId(1),
        cause: Cause::New,
        since: Micros(1_000_000),
        dm: None,
        others: Vec::new(),
        agents: Vec::new(),
        mentioned: Vec::new(),
        answered: None,
    }
}

fn told(names: &Names, occasion: &Occasion) -> Vec<(Purpose, i64, i64)> {
    let seconds = |task: Task| (task.purpose, task.user, task.expires / 1_000_000);
    names.tasks_of(occasion).into_iter().map(seconds).collect()
}

#[test]
fn everybody_is_told_once_and_agents_are_asked_once() {
    let thread = Some(ThreadId(Uuid::from_u128(2)));
    let users = |ids: &[i64]| ids.iter().copied().map(UserId).collect::<Vec<_>>();
    let mut message = occasion();
    assert_eq!(told(&names(), &message), []);
    message.mentioned = users(&[2, 3, 2, 1]);
    message.answered = Some(UserId(3));
    assert_eq!(told(&names(), &message), [(Purpose::Mention, 2, 3601), (Purpose::Mention, 3, 3601)]);
    message.answered = Some(UserId(4));
    let quiet = Names { mention: String::new(), ..names() };
    assert_eq!(told(&quiet, &message), [(Purpose::Reply, 4, 3601)]);

    let mut direct = Occasion { dm: thread, others: users(&[2, 9]), agents: users(&[9, 9]), ..occasion() };
    direct.mentioned = users(&[2, 9]);
    direct.answered = Some(UserId(9));
    assert_eq!(told(&names(), &direct), [(Purpose::AgentDm, 9, 601), (Purpose::Dm, 2, 3601)]);
    direct.author = UserId(9);
    assert_eq!(told(&names(), &direct), [(Purpose::Dm, 2, 3601)], "an agent is not asked to answer itself");
    assert_eq!(told(&Names::default(), &direct), [], "nothing is on");

    // Of an edit, those are told whom it mentions and who were not told of the message.
    let mut edit = Occasion { cause: Cause::Edited, mentioned: users(&[1, 2, 3]), ..occasion() };
    edit.answered = Some(UserId(3));
    assert_eq!(told(&names(), &edit), [(Purpose::Mention, 2, 3601)]);
    let quiet = Names { reply: String::new(), ..names() };
    assert_eq!(told(&quiet, &edit), [(Purpose::Mention, 2, 3601), (Purpose::Mention, 3, 3601)]);
    let direct = Occasion { dm: thread, others: users(&[2, 9]), agents: users(&[9]), ..edit };
    assert_eq!(told(&names(), &direct), []);
}

proptest! {
    #[test]
    fn nothing_is_written_that_a_worker_could_not_take(
        message in any::<u128>(),
        thread in any::<u128>(),
        author in any::<i64>(),
        others in prop::collection::vec(any::<i64>(), 0..6),
        created_at in 0..4_000_000_000_000_000_i64,
        late in 0..10_000_000_000_i64,
        origin in ".*",
    ) {
        let users: Vec<UserId> = others.into_iter().map(UserId).collect();
        let occasion = Occasion {
            message: MessageId(Uuid::from_u128(message)),
            author: UserId(author),
            cause: Cause::New,
            since: Micros(created_at),
            dm: Some(ThreadId(Uuid::from_u128(thread))),
            agents: users.iter().take(2).copied().collect(),
            mentioned: users.clone(),
            answered: users.first().copied(),
            others: users,
        };
        let tasks = names().tasks_of(&occasion);
        let ids: HashSet<Uuid> = tasks.iter().map(|task| task.id).collect();
        prop_assert_eq!(ids.len(), tasks.len());
        for task in tasks {
            prop_assert_eq!(Task::from_bytes(&task.to_bytes()), Some(task.clone()));
            prop_assert_eq!(check(&write(&task, &origin, Micros(created_at + late)), &task.queue), Ok(()));
        }
    }

    #[test]
    fn no_bytes_hurt_the_check(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(&bytes, "celery").is_err());
    }
}
