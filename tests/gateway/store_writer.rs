//! The writer over a real Postgres: exact counters, one order, one bad row alone, nothing lost and nothing half-done.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use community_gateway::domain::{MessageId, RoomId, ThreadId, Topic, UserId};
use community_gateway::lifecycle::Lifecycle;
use community_gateway::store::{Draft, Rejection, WriteError, WriterSettings};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::store_fixture::{FakeOutlet, draft, store};
use crate::support::{RoomSpec, Stack, TestRoom, eventually};

async fn count(stack: &Stack, sql: &'static str, id: Uuid) -> i64 {
    sqlx::query_scalar::<_, i64>(sql).bind(id).fetch_one(stack.db()).await.unwrap()
}

const ROWS: &str = "SELECT count(*) FROM community_message WHERE room_id = $1";
const COUNTER: &str = "SELECT message_count::bigint FROM community_room WHERE id = $1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sends_from_forty_users_on_two_instances_have_one_order_and_exact_counters() {
    let stack = Stack::start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let (one, two) = (store(&stack).await, store(&stack).await);
    let settings = WriterSettings { batch: 16, ..WriterSettings::default() };
    let writers = [outlet.writer(&one, &lifecycle, settings), outlet.writer(&two, &lifecycle, settings)];
    let mut sends = JoinSet::new();
    let mut users = Vec::new();
    for user in 0..40 {
        let author = stack.user(&format!("user{user}")).await;
        if user % 2 == 0 {
            stack.member(&room, &author, "member").await;
        }
        users.push(author);
    }
    for n in 0..200_u32 {
        let author = &users[n as usize % 40];
        let (writer, draft) = (writers[n as usize % 2].clone(), draft(&room, author, &format!("text {n}")));
        sends.spawn(async move { (n, draft.id, writer.send(draft, n).await.unwrap()) });
    }
    let answers = sends.join_all().await;

    assert_eq!(count(&stack, ROWS, room.id).await, 200);
    assert_eq!(count(&stack, COUNTER, room.id).await, 200);
    let members: Vec<i32> =
        sqlx::query_scalar("SELECT messages_sent FROM community_roommembership").fetch_all(stack.db()).await.unwrap();
    assert_eq!(members, [5; 20]);
    let last = "SELECT count(*) FROM community_room r WHERE r.id = $1 AND r.updated_at >= r.created_at AND \
                r.last_message_at = (SELECT max(created_at) FROM community_message WHERE room_id = r.id)";
    assert_eq!(count(&stack, last, room.id).await, 1);

    let by_time: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM community_message ORDER BY created_at").fetch_all(stack.db()).await.unwrap();
    let mut by_offset: Vec<_> =
        answers.iter().map(|(_, id, stored)| (stored.offset, stored.created_at, id.0)).collect();
    by_offset.sort_unstable();
    assert!(by_offset.iter().map(|row| row.0).eq(1..=200), "offsets are contiguous");
    assert!(by_offset.windows(2).all(|pair| pair[0].1 < pair[1].1), "times rise strictly with the offsets");
    assert_eq!(by_offset.iter().map(|row| row.2).collect::<Vec<_>>(), by_time);

    eventually("all are published", || async { outlet.published.lock().len() == 200 }).await;
    let published: HashSet<_> = outlet.published.lock().iter().map(|row| (row.1, row.2, row.3, row.4)).collect();
    let answered = answers.iter().map(|(n, id, stored)| (stored.offset, stored.created_at.0, *id, *n));
    assert_eq!(published, answered.collect::<HashSet<_>>(), "what is published is what was answered, with its payload");
    let batches = one.1.write_batches_total.get() + two.1.write_batches_total.get();
    assert!(batches < 100, "sends that wait are written together, not in {batches} transactions");
    assert_eq!(one.1.messages_stored_total.get() + two.1.messages_stored_total.get(), 200);
    assert_eq!(one.1.write_queue.get() + two.1.write_queue.get(), 0);
}

#[tokio::test]
async fn one_lane_publishes_in_the_order_of_the_offsets() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings { batch: 3, ..WriterSettings::default() });
    let mut sends = JoinSet::new();
    for n in 0..40 {
        let (writer, draft) = (writer.clone(), draft(&room, &ada, "hello"));
        sends.spawn(async move { writer.send(draft, n).await.unwrap() });
    }
    sends.join_all().await;
    eventually("all are published", || async { outlet.published.lock().len() == 40 }).await;
    let offsets: Vec<u64> = outlet.published.lock().iter().map(|row| row.1).collect();
    assert!(offsets.into_iter().eq(1..=40));
}

#[tokio::test]
async fn a_bad_row_fails_alone_and_for_its_own_reason() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let archived = stack.room(RoomSpec { archived: true, ..RoomSpec::default() }).await;
    let inactive = stack.room(RoomSpec { active: false, ..RoomSpec::default() }).await;
    let nowhere = TestRoom { id: Uuid::new_v4() };
    let (outlet, lifecycle) = (FakeOutlet::gated(0), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings { lanes: 1, ..WriterSettings::default() });

    let good = draft(&room, &ada, "good");
    let nobodys = ThreadId(Uuid::new_v4());
    let into_nobodys = Draft { thread_id: Some(nobodys), topic: Topic::Thread(nobodys), ..draft(&room, &ada, "") };
    let rejected = |rejection| Err(WriteError::Rejected(rejection));
    let cases: Vec<(Draft, Result<(), WriteError>)> = vec![
        (good.clone(), Ok(())),
        (draft(&room, &ada, "a \0 in the text"), rejected(Rejection::Invalid)),
        (Draft { attachments: r#"["\u0000"]"#.to_owned(), ..draft(&room, &ada, "") }, rejected(Rejection::Invalid)),
        (Draft { mentions: "no JSON".to_owned(), ..draft(&room, &ada, "") }, rejected(Rejection::Invalid)),
        (Draft { author: UserId(987_654), ..draft(&room, &ada, "") }, rejected(Rejection::AuthorGone)),
        (Draft { id: good.id, ..draft(&room, &ada, "the same id") }, rejected(Rejection::Duplicate)),
        (into_nobodys, rejected(Rejection::UnknownThread)),
        (draft(&archived, &ada, ""), rejected(Rejection::Archived)),
        (draft(&inactive, &ada, ""), Err(WriteError::RoomGone)),
        (draft(&nowhere, &ada, ""), Err(WriteError::RoomGone)),
        (draft(&room, &ada, "good too"), Ok(())),
    ];
    // The first batch waits for its offset, so that all the others are one batch.
    let mut sends = JoinSet::new();
    let (first, early) = (writer.clone(), draft(&room, &ada, "first"));
    sends.spawn(async move { (usize::MAX, first.send(early, 0).await.map(drop)) });
    eventually("the first batch is being written", || async { store.1.write_queue.get() == 0 }).await;
    for (at, (draft, _)) in cases.iter().enumerate() {
        let (writer, draft) = (writer.clone(), draft.clone());
        sends.spawn(async move { (at, writer.send(draft, 0).await.map(drop)) });
    }
    eventually("the others wait", || async { store.1.write_queue.get() == 11 }).await;
    outlet.gate.add_permits(1000);
    for (at, result) in sends.join_all().await {
        let expected = cases.get(at).map_or(&Ok(()), |case| &case.1);
        assert_eq!(&result, expected, "case {at}");
    }
    assert_eq!(count(&stack, ROWS, room.id).await, 3);
    assert_eq!(count(&stack, COUNTER, room.id).await, 3);
    assert_eq!(count(&stack, COUNTER, archived.id).await, 0);
    eventually("the good ones are published", || async { outlet.published.lock().len() == 3 }).await;
    let offsets: Vec<_> = outlet.published.lock().iter().map(|row| row.1).collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
    eventually("what bad rows took is said to stay empty", || async { outlet.unsettled().is_empty() }).await;
    assert_eq!(outlet.taken(Topic::Thread(nobodys)), 0, "a thread's log is moved by nobody who only names it");
}

#[tokio::test]
async fn without_offsets_nothing_is_written_and_afterwards_all_goes_on() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

    outlet.broken.store(true, Ordering::SeqCst);
    let refused = writer.send(draft(&room, &ada, "lost"), 0).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable { .. }), "{refused:?}");
    assert_eq!(count(&stack, ROWS, room.id).await, 0);
    assert_eq!(count(&stack, COUNTER, room.id).await, 0);

    outlet.broken.store(false, Ordering::SeqCst);
    assert_eq!(writer.send(draft(&room, &ada, "kept"), 0).await.unwrap().offset, 1);
    assert_eq!(count(&stack, COUNTER, room.id).await, 1);
}

#[tokio::test]
async fn an_outlet_that_does_not_answer_does_not_hold_the_room() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::gated(0), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());
    let refused = writer.send(draft(&room, &ada, "stuck"), 0).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable { .. }), "{refused:?}");
    let lock = "SELECT count(*) FROM (SELECT FROM community_room WHERE id = $1 FOR UPDATE NOWAIT) locked";
    assert_eq!(count(&stack, lock, room.id).await, 1, "the room's lock is free again");
}

#[tokio::test]
async fn a_locked_room_is_refused_and_the_others_of_its_batch_are_written() {
    let stack = Stack::start().await;
    let (locked, free) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let ada = stack.user("ada").await;
    let (outlet, lifecycle) = (FakeOutlet::gated(0), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings { lanes: 1, ..WriterSettings::default() });

    let mut holder = stack.db().begin().await.unwrap();
    sqlx::query("SELECT FROM community_room WHERE id = $1 FOR UPDATE")
        .bind(locked.id)
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut sends = JoinSet::new();
    let (first, early) = (writer.clone(), draft(&free, &ada, "first"));
    sends.spawn(async move { (0, first.send(early, 0).await) });
    eventually("the first batch is being written", || async { store.1.write_queue.get() == 0 }).await;
    for (n, room) in [(1, &locked), (2, &free), (3, &locked)] {
        let (writer, draft) = (writer.clone(), draft(room, &ada, "second"));
        sends.spawn(async move { (n, writer.send(draft, 0).await) });
    }
    eventually("the others wait", || async { store.1.write_queue.get() == 3 }).await;
    outlet.gate.add_permits(1000);
    for (n, result) in sends.join_all().await {
        let refused = matches!(result, Err(WriteError::Unavailable { .. }));
        assert_eq!(refused, n % 2 == 1, "send {n}: {result:?}");
    }
    holder.rollback().await.unwrap();
    assert_eq!(count(&stack, ROWS, free.id).await, 2);
    assert_eq!(count(&stack, ROWS, locked.id).await, 0);
    writer.send(draft(&locked, &ada, "now"), 0).await.unwrap();
}

#[tokio::test]
async fn a_message_comes_after_every_other_even_one_from_the_future() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.messages(&room, &ada, 1).await;
    // Django's clock is ahead, and it has not raised the room's counter yet.
    sqlx::query("UPDATE community_message SET created_at = now() + interval '1 hour'")
        .execute(stack.db())
        .await
        .unwrap();
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());
    for n in 0..3 {
        writer.send(draft(&room, &ada, &format!("later {n}")), 0).await.unwrap();
    }
    let page = store.0.latest(RoomId(room.id), 10).await.unwrap();
    let texts: Vec<&str> = page.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(texts, ["message 1", "later 0", "later 1", "later 2"]);
}

#[tokio::test]
async fn a_reply_shows_what_it_answers_only_within_the_room() {
    let stack = Stack::start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let ada = stack.user("ada").await;
    let (here, there) = (stack.messages(&room, &ada, 2).await, stack.messages(&other, &ada, 1).await);
    let long = "é".repeat(300);
    sqlx::query("UPDATE community_message SET content = $2 WHERE id = $1")
        .bind(here[0])
        .bind(&long)
        .execute(stack.db())
        .await
        .unwrap();
    sqlx::query("UPDATE community_message SET is_hidden = true WHERE id = $1")
        .bind(here[1])
        .execute(stack.db())
        .await
        .unwrap();
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());

    let reply = |to: Uuid| Draft { reply_to: Some(MessageId(to)), ..draft(&room, &ada, "re") };
    let stored = writer.send(reply(here[0]), 0).await.unwrap();
    let preview = stored.reply.unwrap();
    assert_eq!((preview.id.0, preview.author_username.as_str()), (here[0], "ada"));
    assert_eq!(preview.content, "é".repeat(200));
    assert_eq!(stored.reply_to_id, Some(MessageId(here[0])));

    let stored = writer.send(reply(here[1]), 0).await.unwrap();
    assert_eq!((stored.reply, stored.reply_to_id), (None, Some(MessageId(here[1]))), "hidden");
    for nothing in [there[0], Uuid::new_v4()] {
        let stored = writer.send(reply(nothing), 0).await.unwrap();
        assert_eq!((stored.reply, stored.reply_to_id), (None, None));
    }
    let page = store.0.latest(RoomId(room.id), 10).await.unwrap();
    let seen: Vec<_> =
        page.messages[1..].iter().map(|it| (it.reply_to_id.map(|id| id.0), it.reply_to.is_some())).collect();
    assert_eq!(seen, [(Some(here[0]), true), (Some(here[1]), false), (None, false), (None, false)]);
}

#[tokio::test]
async fn threads_and_conversations_are_raised_with_their_messages() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec { room_type: "dm", ..RoomSpec::default() }).await, stack.user("ada").await);
    let (thread, conversation) = (Uuid::new_v4(), Uuid::new_v4());
    sqlx::query(
        "INSERT INTO community_thread (id, title, is_locked, is_pinned, is_resolved, message_count, is_archived, \
             created_at, updated_at, room_id) \
         VALUES ($1, 'A thread', false, false, false, 0, false, now(), now(), $2)",
    )
    .bind(thread)
    .bind(room.id)
    .execute(stack.db())
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO community_directmessagethread (id, is_group, name, created_at, updated_at, room_id) \
         VALUES ($1, false, '', now(), now(), $2)",
    )
    .bind(conversation)
    .bind(room.id)
    .execute(stack.db())
    .await
    .unwrap();
    let (outlet, lifecycle) = (FakeOutlet::new(), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());
    let topic = Topic::Dm(ThreadId(conversation));
    let dm = || Draft { dm_thread: Some(ThreadId(conversation)), topic, ..draft(&room, &ada, "psst") };
    writer.send(Draft { thread_id: Some(ThreadId(thread)), ..draft(&room, &ada, "a") }, 0).await.unwrap();
    writer.send(Draft { thread_id: Some(ThreadId(thread)), ..draft(&room, &ada, "b") }, 0).await.unwrap();
    writer.send(dm(), 0).await.unwrap();
    assert_eq!(writer.send(dm(), 0).await.unwrap().offset, 2, "each topic has its own offsets");

    let raised = "SELECT count(*) FROM community_thread t WHERE t.id = $1 AND t.message_count = 2 AND \
                  t.last_message_at = (SELECT max(created_at) FROM community_message m WHERE m.thread_id = t.id)";
    assert_eq!(count(&stack, raised, thread).await, 1);
    let raised = "SELECT count(*) FROM community_directmessagethread t WHERE t.id = $1 AND t.updated_at > t.created_at AND \
                  t.last_message_at = (SELECT max(created_at) FROM community_message m WHERE m.room_id = t.room_id)";
    assert_eq!(count(&stack, raised, conversation).await, 1);
}

#[tokio::test]
async fn a_sender_who_leaves_takes_nothing_back() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::gated(0), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings::default());
    let mut send = Box::pin(writer.send(draft(&room, &ada, "and gone"), 9));
    tokio::select! {
        biased;
        _ = &mut send => panic!("it was answered without an offset"),
        () = eventually("the lane has taken it", || async { store.1.write_queue.get() == 0 }) => {}
    }
    drop(send);
    outlet.gate.add_permits(1);
    eventually("it is published", || async { outlet.published.lock().len() == 1 }).await;
    assert_eq!(count(&stack, ROWS, room.id).await, 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_closed_writer_finishes_first() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (outlet, lifecycle) = (FakeOutlet::gated(0), Lifecycle::new());
    let store = store(&stack).await;
    let writer = outlet.writer(&store, &lifecycle, WriterSettings { lanes: 1, batch: 1, queue: 2 });
    let mut sends = JoinSet::new();
    for queued in [0, 1, 2] {
        let (writer, draft) = (writer.clone(), draft(&room, &ada, "hello"));
        sends.spawn(async move { writer.send(draft, 0).await });
        eventually("it is queued", || async { store.1.write_queue.get() == queued }).await;
    }
    assert_eq!(writer.send(draft(&room, &ada, "one too many"), 0).await, Err(WriteError::Busy));

    lifecycle.begin_shutdown();
    writer.close();
    outlet.gate.add_permits(3);
    for result in sends.join_all().await {
        result.unwrap();
    }
    let refused = writer.send(draft(&room, &ada, "too late"), 0).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable { .. }), "{refused:?}");
    assert_eq!(lifecycle.wait(Duration::from_secs(10)).await, 0, "no task is left");
    assert_eq!(outlet.published.lock().len(), 3, "what was written is published before the end");
}
