//! Reads of the store over a real Postgres: pages, admission, receipts, shared reads.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use community_gateway::domain::{Author, MessageId, Micros, Role, RoomId, UserId, Visibility};
use community_gateway::store::{Settings, StoreError};
use community_gateway::telemetry::Metrics;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::store_fixture::{store, store_with};
use crate::support::{RoomSpec, Stack, TestRoom, TestUser, UserSpec};

/// Puts messages into a room at these instants; those marked are hidden.
async fn fill(stack: &Stack, room: &TestRoom, author: &TestUser, messages: &[(i64, bool)]) {
    let ids: Vec<Uuid> = messages.iter().map(|_| Uuid::new_v4()).collect();
    let (instants, hidden): (Vec<i64>, Vec<bool>) = messages.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO community_message (id, content, message_type, attachments, embeds, mentions, reaction_counts, \
             is_edited, is_flagged, is_hidden, is_pinned, author_id, room_id, created_at, updated_at) \
         SELECT id, id::text, 'text', '[]', '[]', '[]', '{}', false, false, hidden, false, $4, $5, \
                'epoch'::timestamptz + instant * interval '1 microsecond', now() \
           FROM unnest($1, $2, $3) AS t (id, instant, hidden)",
    )
    .bind(&ids)
    .bind(&instants)
    .bind(&hidden)
    .bind(author.id)
    .bind(room.id)
    .execute(stack.db())
    .await
    .unwrap();
}

#[tokio::test]
async fn paging_meets_every_message_once_even_when_many_share_an_instant() {
    let stack = Stack::start().await;
    let ada = stack.user("ada").await;
    let (store, _) = store(&stack).await;
    let mut runner = TestRunner::deterministic();
    let cases = (prop::collection::vec((0..6_i64, prop::bool::weighted(0.1)), 0..60), 1..9_u32);
    for _ in 0..40 {
        let (messages, limit) = cases.new_tree(&mut runner).unwrap().current();
        let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
        fill(&stack, &room, &ada, &messages).await;
        fill(&stack, &other, &ada, &[(3, false)]).await;

        let mut page = (*store.latest(RoomId(room.id), limit).await.unwrap()).clone();
        let mut newest_first = Vec::new();
        loop {
            assert!(page.messages.len() <= limit as usize);
            assert_eq!(page.cursor, if page.has_more { page.messages.first().map(|it| it.id) } else { None });
            newest_first.extend(page.messages.iter().rev().map(|it| (it.created_at, it.id)));
            let Some(cursor) = page.cursor else { break };
            page = store.history(RoomId(room.id), cursor, limit).await.unwrap();
            assert!(!page.messages.is_empty(), "has_more was true");
        }
        let shown = messages.iter().filter(|(_, hidden)| !hidden).count();
        assert_eq!(newest_first.len(), shown, "{messages:?} by {limit}");
        assert_eq!(newest_first.iter().collect::<HashSet<_>>().len(), shown, "{messages:?} by {limit}");
        assert!(newest_first.windows(2).all(|pair| pair[0].0 >= pair[1].0), "{messages:?} by {limit}");
    }
}

#[tokio::test]
async fn a_cursor_is_a_message_of_the_room_hidden_or_not() {
    let stack = Stack::start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let ada = stack.user("ada").await;
    let ids = stack.messages(&room, &ada, 3).await;
    sqlx::query("UPDATE community_message SET is_hidden = true WHERE id = $1")
        .bind(ids[1])
        .execute(stack.db())
        .await
        .unwrap();
    let (store, _) = store(&stack).await;

    let page = store.history(RoomId(room.id), MessageId(ids[1]), 50).await.unwrap();
    assert_eq!(page.messages.iter().map(|it| it.id.0).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!((page.has_more, page.cursor), (false, None));
    let page = store.history(RoomId(room.id), MessageId(ids[0]), 50).await.unwrap();
    assert!(page.messages.is_empty() && !page.has_more);
    for (room, cursor) in [(other.id, ids[0]), (room.id, Uuid::new_v4())] {
        let error = store.history(RoomId(room), MessageId(cursor), 50).await.unwrap_err();
        assert_eq!(error, StoreError::UnknownCursor);
    }
}

#[tokio::test]
async fn a_message_is_read_as_django_wrote_it() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let grace = stack.user_with("grace", UserSpec { avatar_url: Some("https://x/g.png"), ..UserSpec::default() }).await;
    let ids = stack.messages(&room, &ada, 1).await;
    let reply = stack.messages(&room, &grace, 1).await[0];
    sqlx::query(
        "UPDATE community_message SET reply_to_id = $2, is_edited = true, is_pinned = true, mentions = '[7]', \
             edited_at = '2024-02-29 00:00:00.000001+00', created_at = '2024-02-28 12:00:00.5+00', \
             reaction_counts = '{\"👍\": 2}' WHERE id = $1",
    )
    .bind(reply)
    .bind(ids[0])
    .execute(stack.db())
    .await
    .unwrap();
    sqlx::query("UPDATE community_message SET author_id = NULL, created_at = '2020-01-01+00' WHERE id = $1")
        .bind(ids[0])
        .execute(stack.db())
        .await
        .unwrap();
    let (store, _) = store(&stack).await;
    let page = store.latest(RoomId(room.id), 50).await.unwrap();

    let [old, new] = &page.messages[..] else { panic!("{page:?}") };
    assert_eq!(old.author, Author::unknown());
    assert_eq!(old.created_at, Micros(1_577_836_800_000_000));
    assert_eq!(new.author.id, Some(UserId(grace.id)));
    assert_eq!(new.author.avatar_url.as_deref(), Some("https://x/g.png"));
    assert_eq!(new.created_at.to_string(), "2024-02-28T12:00:00.500000+00:00");
    assert_eq!(new.edited_at.unwrap().to_string(), "2024-02-29T00:00:00.000001+00:00");
    assert_eq!((new.is_edited, new.is_pinned, new.mentions.as_str()), (true, true, "[7]"));
    assert_eq!(new.reaction_counts, r#"{"👍": 2}"#);
    let answered = new.reply_to.as_ref().unwrap();
    assert_eq!((answered.id.0, answered.author_id, answered.author_username.as_str()), (ids[0], None, "Unknown"));
    assert_eq!(answered.content, "message 1");
}

#[tokio::test]
async fn admission_tells_account_room_membership_and_circle() {
    for pgbouncer in [false, true] {
        let stack = Stack::start().await;
        let ada = stack.user_with("ada", UserSpec { staff: true, tier: "team", ..UserSpec::default() }).await;
        let grace = stack.user_with("grace", UserSpec { active: false, ..UserSpec::default() }).await;
        let open = stack.room(RoomSpec::default()).await;
        let circle = stack.room(RoomSpec { room_type: "circle", visibility: "unlisted", ..RoomSpec::default() }).await;
        stack.member(&open, &ada, "moderator").await;
        sqlx::query(
            "INSERT INTO thrive_circle_circle (id, name, tier, week_start, week_end, member_count, active_member_count, \
                 is_active, created_at, updated_at) VALUES ($1, 'C', 't', now(), now(), 0, 0, true, now(), now())",
        )
        .bind(circle.id)
        .execute(stack.db())
        .await
        .unwrap();
        sqlx::query("UPDATE community_room SET circle_id = $1 WHERE id = $1")
            .bind(circle.id)
            .execute(stack.db())
            .await
            .unwrap();
        for (user, active) in [(&ada, true), (&grace, false)] {
            sqlx::query(
                "INSERT INTO thrive_circle_circlemembership (id, is_active, joined_at, points_earned_in_circle, \
                     was_active, circle_id, user_id) VALUES ($1, $2, now(), 0, true, $3, $4)",
            )
            .bind(Uuid::new_v4())
            .bind(active)
            .bind(circle.id)
            .bind(user.id)
            .execute(stack.db())
            .await
            .unwrap();
        }
        let (store, _) = store_with(Settings { pgbouncer, ..Settings::new(&stack.database_url()) }).await;

        let here = store.admission(RoomId(open.id), UserId(ada.id)).await.unwrap();
        let account = here.account.unwrap();
        assert!(account.is_active && account.person.is_staff && account.tier == "team" && account.date_joined.0 > 0);
        let (room, member) = (here.room.unwrap(), here.membership.unwrap());
        assert_eq!((room.visibility, room.member_count, room.circle_id), (Visibility::Public, 1, None));
        assert_eq!((room.name.as_str(), room.is_active, room.is_archived), ("The Lounge", true, false));
        assert_eq!((member.role, member.is_active, member.last_read_at), (Role::Moderator, true, None));
        assert!(!here.circle_member);

        let here = store.admission(RoomId(circle.id), UserId(ada.id)).await.unwrap();
        assert!(here.circle_member && here.membership.is_none());
        assert_eq!(here.room.unwrap().visibility, Visibility::Closed);
        let here = store.admission(RoomId(circle.id), UserId(grace.id)).await.unwrap();
        assert!(!here.circle_member && !here.account.unwrap().is_active);
        let here = store.admission(RoomId(Uuid::new_v4()), UserId(987_654)).await.unwrap();
        assert!(here.account.is_none() && here.room.is_none() && here.membership.is_none() && !here.circle_member);

        assert_eq!(store.account(UserId(987_654)).await.unwrap(), None);
        let people = store.people(&[UserId(grace.id), UserId(987_654)]).await.unwrap();
        assert_eq!(people.iter().map(|person| person.username.as_str()).collect::<Vec<_>>(), ["grace"]);
        assert_eq!(store.people(&[]).await.unwrap(), []);
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn reading_moves_forward_only() {
    let stack = Stack::start().await;
    let (room, other) = (stack.room(RoomSpec::default()).await, stack.room(RoomSpec::default()).await);
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    stack.member(&room, &ada, "member").await;
    let ids = stack.messages(&room, &ada, 3).await;
    let elsewhere = stack.messages(&other, &ada, 1).await[0];
    let (store, _) = store(&stack).await;
    let mark = async |user: &TestUser, message: Uuid| {
        store.mark_read(RoomId(room.id), UserId(user.id), MessageId(message)).await.unwrap()
    };
    let read_to = async || {
        let member = store.admission(RoomId(room.id), UserId(ada.id)).await.unwrap().membership.unwrap();
        member.last_read_at
    };
    let page = store.latest(RoomId(room.id), 50).await.unwrap();
    let times: Vec<_> = page.messages.iter().map(|it| it.created_at).collect();

    assert!(mark(&ada, ids[1]).await);
    assert_eq!(read_to().await, Some(times[1]));
    assert!(!mark(&ada, ids[0]).await, "never backwards");
    assert!(!mark(&ada, ids[1]).await, "no news");
    assert!(!mark(&ada, elsewhere).await, "a message of another room");
    assert!(!mark(&ada, Uuid::new_v4()).await, "no message");
    assert!(!mark(&grace, ids[2]).await, "no member");
    assert_eq!(read_to().await, Some(times[1]));
    assert!(mark(&ada, ids[2]).await);
    assert_eq!(read_to().await, Some(times[2]));
}

/// Polls a future once.
async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn a_thousand_joins_at_once_share_reads_that_began_after_them() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    let (store, metrics) = store(&stack).await;
    let mut lock = stack.db().begin().await.unwrap();
    sqlx::query("LOCK TABLE community_message IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();

    let mut first = Box::pin(store.latest(RoomId(room.id), 50));
    assert!(!poll_once(&mut first).await);
    let mut others: Vec<_> = (0..999).map(|_| Box::pin(store.latest(RoomId(room.id), 50))).collect();
    for other in &mut others {
        assert!(!poll_once(other).await);
    }
    lock.rollback().await.unwrap();
    assert!(first.await.unwrap().messages.is_empty());
    // The next read has not begun: whoever waits for it sees this.
    stack.messages(&room, &ada, 1).await;
    let mut pages = Vec::new();
    for other in others {
        pages.push(other.await.unwrap());
    }
    assert!(pages.iter().all(|page| page.messages.len() == 1 && Arc::ptr_eq(page, &pages[0])));
    assert_eq!(metrics.reads_shared_total.get(), 998);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let metrics = || Arc::new(Metrics::new().unwrap());
    let connect = async |url: &str| {
        let result = community_gateway::store::Store::connect(Settings::new(url), metrics()).await;
        result.err().expect("it cannot be used")
    };
    let error = connect("postgres://django:hush@127.0.0.1:1/app").await;
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert!(!error.to_string().contains("hush"));
    let error = connect("not a url: hush").await;
    assert!(matches!(error, StoreError::Settings(_)) && !error.to_string().contains("hush"), "{error}");

    let stack = Stack::start().await;
    let missing = stack.database_url().rsplit_once('/').unwrap().0.to_owned() + "/no_such_database";
    let error = connect(&missing).await;
    assert!(error.to_string().contains("no_such_database"), "{error}");
    let settings = Settings { user_table: "x\"; --".to_owned(), ..Settings::new(&stack.database_url()) };
    let error = community_gateway::store::Store::connect(settings, metrics()).await.err().unwrap();
    assert!(matches!(error, StoreError::Settings(_)), "{error}");
}

#[tokio::test]
async fn a_pool_full_of_dead_connections_heals_by_itself() {
    let stack = Stack::start().await;
    let (room, ada) = (stack.room(RoomSpec::default()).await, stack.user("ada").await);
    stack.messages(&room, &ada, 1).await;
    let (store, _) = store(&stack).await;
    store.account(UserId(ada.id)).await.unwrap();
    let killed: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'community-gateway'",
    )
    .fetch_all(stack.db())
    .await
    .unwrap();
    assert!(!killed.is_empty() && killed.iter().all(|dead| *dead));
    assert_eq!(store.latest(RoomId(room.id), 50).await.unwrap().messages.len(), 1);
}
