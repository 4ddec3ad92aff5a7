//! A gateway with both layers of moderation: what their tests share.

use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{FakeOpenAi, GatewayBuilder, RoomSpec, Stack, TestClient, TestRoom, TestUser};

/// The words of the tests' lists.
pub const WORDS: &str = "block grobnik\nflag dubbly\n";

/// A folder of lists of the test's own.
pub struct Lists(PathBuf);

impl Lists {
    pub fn new(words: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lists-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        for name in ["innocent.txt", "links-allow.txt", "links-deny.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let lists = Self(folder);
        lists.set(words);
        lists
    }

    pub fn set(&self, words: &str) {
        std::fs::write(self.0.join("words.txt"), words).unwrap();
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A room with somebody who writes and somebody who reads; the second layer asks an API of the test's own.
pub struct Stage {
    pub stack: Stack,
    pub api: FakeOpenAi,
    pub lists: Lists,
    pub room: TestRoom,
    pub author: TestUser,
    pub reader: TestUser,
}

impl Stage {
    /// `mean` scores 0.45 for harassment, `awful` 0.91 for hate.
    pub async fn start() -> Self {
        let stack = Stack::start().await;
        let api = FakeOpenAi::start().await;
        api.score("mean", "harassment", 0.45);
        api.score("awful", "hate", 0.91);
        let room = stack.room(RoomSpec::default()).await;
        let (author, reader) = (stack.user("author").await, stack.user("reader").await);
        stack.member(&room, &author, "member").await;
        stack.member(&room, &reader, "member").await;
        Self { stack, api, lists: Lists::new(WORDS), room, author, reader }
    }

    pub fn gateway(&self) -> GatewayBuilder {
        self.stack
            .gateway()
            .env("OPENAI_BASE_URL", self.api.url())
            .env("OPENAI_API_KEY", FakeOpenAi::KEY)
            .env("GATEWAY_MODERATION_LISTS", self.lists.path())
            .env("GATEWAY_MODERATION_DEADLINE_SECONDS", 10)
            .env("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", 0)
    }

    /// What is stored of a message: flagged, hidden; of its queue: status, by a machine, reason, scores; of its record:
    /// source.
    pub async fn stored(&self, content: &str) -> Option<Stored> {
        sqlx::query_as(
            "SELECT m.is_flagged, m.is_hidden, q.status, q.ai_flagged, q.ai_reason, q.ai_scores, a.source \
               FROM community_message m LEFT JOIN community_moderationqueue q ON q.message_id = m.id \
               LEFT JOIN community_moderationaction a ON a.target_message_id = m.id AND a.action_type = 'hide' \
                    AND a.is_active AND a.target_user_id = m.author_id AND a.target_room_id = m.room_id \
                    AND a.reason = q.ai_reason AND a.ai_scores = q.ai_scores \
              WHERE m.content = $1",
        )
        .bind(content)
        .fetch_optional(self.stack.db())
        .await
        .unwrap()
    }

    pub async fn sql<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(self.stack.db()).await.unwrap()
    }
}

pub type Stored = (bool, bool, Option<String>, Option<bool>, Option<String>, Option<Value>, Option<String>);

/// Sends a text under a `client_id`.
pub async fn send(client: &mut TestClient, client_id: &str, content: &str) {
    client.send(json!({"type": "send_message", "content": content, "client_id": client_id})).await;
}

/// Sends a text and returns the first answer to it: an ack, a `moderation`, or an error.
pub async fn say(client: &mut TestClient, content: &str) -> Value {
    let client_id = Uuid::new_v4().to_string();
    send(client, &client_id, content).await;
    answer(client, &client_id).await
}

/// The first answer to what was sent under a `client_id`.
pub async fn answer(client: &mut TestClient, client_id: &str) -> Value {
    let is_answer = |event: &Value| event["clientId"] == client_id && event["event"] != "new_message";
    client.wait_until("an answer", is_answer).await
}

/// The text of the next message that arrives.
pub async fn heard(client: &mut TestClient) -> String {
    client.wait_for("new_message").await["message"]["content"].as_str().unwrap().to_owned()
}
