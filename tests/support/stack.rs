//! The surroundings of a gateway, for one test: Django's database, Redis, and what Django would have put there.

use std::sync::Arc;

use community_gateway::domain::Micros;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use super::gateway::GatewayBuilder;
use super::postgres::Database;
use super::redis_server::RedisServer;

/// Django's secret, with which its JWTs are signed.
pub const SECRET_KEY: &str = "the-secret-key-of-the-tests-which-is-long-enough";

/// A database and a Redis of the test's own. Clones share them; the last one drops them.
#[derive(Clone)]
pub struct Stack(Arc<Parts>);

struct Parts {
    db: PgPool,
    database_url: String,
    /// Dropped with this value; `None` when it is somebody else's.
    _database: Option<Database>,
    redis: RedisServer,
}

/// A row of Django's user table.
#[derive(Clone, Debug)]
pub struct TestUser {
    pub id: i64,
    pub username: String,
}

/// What a user is to be like. The default is an ordinary active one.
#[derive(Clone, Debug)]
pub struct UserSpec {
    pub active: bool,
    pub staff: bool,
    pub tier: &'static str,
    pub avatar_url: Option<&'static str>,
}

impl Default for UserSpec {
    fn default() -> Self {
        Self { active: true, staff: false, tier: "seedling", avatar_url: None }
    }
}

/// A row of Django's room table.
#[derive(Clone, Copy, Debug)]
pub struct TestRoom {
    pub id: Uuid,
}

impl TestRoom {
    /// The channel that its events travel on.
    pub fn channel(&self) -> String {
        format!("community:room:{}", self.id)
    }

    /// The path of its socket.
    pub fn path(&self) -> String {
        format!("/ws/community/room/{}/", self.id)
    }
}

/// What a room is to be like. The default is a public forum without limits.
#[derive(Clone, Debug)]
pub struct RoomSpec {
    pub name: &'static str,
    pub description: &'static str,
    pub icon: &'static str,
    pub room_type: &'static str,
    pub visibility: &'static str,
    pub slow_mode_seconds: i32,
    pub min_trust_to_join: i32,
    pub min_trust_to_post: i32,
    pub archived: bool,
    pub active: bool,
}

impl Default for RoomSpec {
    fn default() -> Self {
        Self {
            name: "The Lounge",
            description: "Say hello.",
            icon: "coffee",
            room_type: "forum",
            visibility: "public",
            slow_mode_seconds: 0,
            min_trust_to_join: 0,
            min_trust_to_post: 0,
            archived: false,
            active: true,
        }
    }
}

impl Stack {
    /// A fresh database and a fresh Redis.
    pub async fn start() -> Self {
        let create = tokio::task::spawn_blocking(Database::create);
        let redis = RedisServer::start().await;
        let database = create.await.expect("the database is created");
        Self::of(database.url(), Some(database), redis).await
    }

    /// A fresh Redis, and a database that is there, with Django's tables.
    pub async fn on_database(url: String) -> Self {
        Self::of(url, None, RedisServer::start().await).await
    }

    async fn of(database_url: String, database: Option<Database>, redis: RedisServer) -> Self {
        let db = PgPoolOptions::new().max_connections(4).connect(&database_url).await.expect("Postgres answers");
        Self(Arc::new(Parts { db, database_url, _database: database, redis }))
    }

    /// A gateway on this stack, to be configured and started. Call it again for a second instance.
    pub fn gateway(&self) -> GatewayBuilder {
        GatewayBuilder::new(self)
    }

    pub fn database_url(&self) -> String {
        self.0.database_url.clone()
    }

    /// Direct access to the database.
    pub fn db(&self) -> &PgPool {
        &self.0.db
    }

    /// The Redis process: URLs, pause, resume, kill, restart.
    pub fn redis_server(&self) -> &RedisServer {
        &self.0.redis
    }

    /// A new connection to the realtime database (3).
    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.connection(3).await
    }

    /// A new connection to Django's cache (2).
    pub async fn cache(&self) -> redis::aio::MultiplexedConnection {
        self.connection(2).await
    }

    /// Publishes on a channel of the realtime database, as Django does.
    pub async fn publish(&self, channel: &str, payload: &[u8]) {
        let sent = redis::cmd("PUBLISH").arg(channel).arg(payload).exec_async(&mut self.redis().await).await;
        sent.expect("Redis takes it");
    }

    /// Gives an order to all instances, as Django does.
    pub async fn order(&self, order: serde_json::Value) {
        self.publish("community:control", order.to_string().as_bytes()).await;
    }

    async fn connection(&self, database: u8) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.0.redis.url(database)).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("Redis answers")
    }

    /// An ordinary user.
    pub async fn user(&self, username: &str) -> TestUser {
        self.user_with(username, UserSpec::default()).await
    }

    pub async fn user_with(&self, username: &str, spec: UserSpec) -> TestUser {
        let id = sqlx::query_scalar(
            "INSERT INTO users_user (is_superuser, username, first_name, last_name, is_staff, is_active, date_joined, \
                                     email, role, avatar_url, tier) \
             VALUES (false, $1, '', '', $2, $3, now(), $1 || '@example.org', 'explorer', $4, $5) RETURNING id",
        )
        .bind(username)
        .bind(spec.staff)
        .bind(spec.active)
        .bind(spec.avatar_url)
        .bind(spec.tier)
        .fetch_one(self.db())
        .await
        .expect("a user is inserted");
        TestUser { id, username: username.to_owned() }
    }

    /// Many ordinary users at once: `{prefix}1` … `{prefix}count`.
    pub async fn users(&self, prefix: &str, count: i32) -> Vec<TestUser> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "INSERT INTO users_user (is_superuser, username, first_name, last_name, is_staff, is_active, date_joined, \
                                     email, role, tier) \
             SELECT false, $1 || n, '', '', false, true, now(), $1 || n || '@example.org', 'explorer', 'seedling' \
             FROM generate_series(1, $2) AS n RETURNING id, username",
        )
        .bind(prefix)
        .bind(count)
        .fetch_all(self.db())
        .await
        .expect("users are inserted");
        rows.into_iter().map(|(id, username)| TestUser { id, username }).collect()
    }

    pub async fn room(&self, spec: RoomSpec) -> TestRoom {
        let id = Uuid::new_v4();
        sqlx::query(
            "INSERT INTO community_room (id, name, slug, description, icon, room_type, visibility, slow_mode_seconds, \
                 min_trust_to_join, min_trust_to_post, is_archived, is_active, auto_thread, position, is_default, \
                 member_count, message_count, online_count, created_at, updated_at) \
             VALUES ($1, $2, $1::text, $3, $4, $5, $6, $7, $8, $9, $10, $11, false, 0, false, 0, 0, 0, now(), now())",
        )
        .bind(id)
        .bind(spec.name)
        .bind(spec.description)
        .bind(spec.icon)
        .bind(spec.room_type)
        .bind(spec.visibility)
        .bind(spec.slow_mode_seconds)
        .bind(spec.min_trust_to_join)
        .bind(spec.min_trust_to_post)
        .bind(spec.archived)
        .bind(spec.active)
        .execute(self.db())
        .await
        .expect("a room is inserted");
        TestRoom { id }
    }

    /// Lets one user block another, as Django stores it.
    pub async fn block(&self, blocker: &TestUser, blocked: &TestUser) {
        sqlx::query(
            "INSERT INTO community_userblock (id, created_at, blocker_id, blocked_id) VALUES ($1, now(), $2, $3)",
        )
        .bind(Uuid::new_v4())
        .bind(blocker.id)
        .bind(blocked.id)
        .execute(self.db())
        .await
        .unwrap();
    }

    /// Makes the user an active member with this role (`owner`, `admin`, `moderator`, `trusted`, `member`, `muted`,
    /// `banned`), as Django does: the room's `member_count` goes up by one.
    pub async fn member(&self, room: &TestRoom, user: &TestUser, role: &str) {
        sqlx::query(
            "WITH counted AS (UPDATE community_room SET member_count = member_count + 1 WHERE id = $2) \
             INSERT INTO community_roommembership (id, room_id, user_id, role, trust_score, messages_sent, warnings_count, \
                 notifications_enabled, notification_level, is_active, joined_at, updated_at) \
             VALUES ($1, $2, $3, $4, 0, 0, 0, true, 'all', true, now(), now())",
        )
        .bind(Uuid::new_v4())
        .bind(room.id)
        .bind(user.id)
        .bind(role)
        .execute(self.db())
        .await
        .expect("a membership is inserted");
    }

    /// Puts `count` messages of a user into a room's past, a second apart, the last of them a minute ago. Their texts
    /// are `message 1` … `message count`, oldest first, as the ids that are returned.
    pub async fn messages(&self, room: &TestRoom, author: &TestUser, count: i32) -> Vec<Uuid> {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
        sqlx::query(
            "INSERT INTO community_message (id, content, message_type, attachments, embeds, mentions, reaction_counts, \
                 is_edited, is_flagged, is_hidden, is_pinned, author_id, room_id, created_at, updated_at) \
             SELECT id, 'message ' || at, 'text', '[]', '[]', '[]', '{}', false, false, false, false, $2, $3, time, time \
             FROM (SELECT id, at, now() - make_interval(secs => 60 + $4 - at) AS time \
                   FROM unnest($1) WITH ORDINALITY AS ids (id, at)) AS dated",
        )
        .bind(&ids)
        .bind(author.id)
        .bind(room.id)
        .bind(count)
        .execute(self.db())
        .await
        .expect("messages are inserted");
        ids
    }

    /// A fresh connection token in Django's cache (as JSON; what Django pickles is for the golden and interop tests).
    pub async fn token(&self, user: &TestUser) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let seconds = Micros::now().0 as f64 / 1e6;
        let value = json!({
            "user_id": user.id,
            "username": user.username,
            "connection_id": null,
            "created_at": seconds,
            "used": false,
        });
        let key = format!("allthrive:1:ws_conn_token:{token}");
        let mut cache = self.cache().await;
        let set = redis::cmd("SET").arg(key).arg(value.to_string()).arg("EX").arg(60).exec_async(&mut cache).await;
        set.expect("the token is written");
        token
    }

    /// An access token as Django signs it, valid for a quarter of an hour.
    pub fn jwt(&self, user: &TestUser) -> String {
        let now = Micros::now().seconds();
        let claims = json!({
            "token_type": "access",
            "exp": now + 900,
            "iat": now,
            "jti": Uuid::new_v4().simple().to_string(),
            "user_id": user.id.to_string(),
        });
        self.sign(&claims)
    }

    /// A JWT with any claims, signed with [`SECRET_KEY`].
    pub fn sign(&self, claims: &serde_json::Value) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let signed =
            format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(claims.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET_KEY.as_bytes());
        let signature = base64_url(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

/// Base64 with the URL-safe alphabet and no padding, as JWTs have it.
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0_usize, |word, &byte| word << 8 | usize::from(byte));
        let letters = (0..=chunk.len()).map(|at| ALPHABET[word >> (18 - 6 * at) & 63]);
        text.extend(letters.map(char::from));
    }
    text
}
