//! `request_history`: a page of older messages.

use std::sync::Arc;
use std::time::Duration;

use super::{Commands, Replies};
use crate::access::Grant;
use crate::domain::{MessageId, ThreadId};
use crate::store::StoreError;
use crate::wire::{Code, Refusal, event};

impl Commands {
    pub(super) async fn history(
        &self,
        grant: &Grant,
        thread: Option<ThreadId>,
        before: Option<MessageId>,
        limit: u16,
    ) -> Result<Replies, Refusal> {
        let (room, most) = (grant.room.id, u32::from(limit));
        let page = match (thread, before) {
            (Some(thread), Some(before)) => self.store.history_in(room, thread, before, most).await.map(Arc::new),
            (Some(thread), None) => match self.store.latest_in(room, thread, most).await {
                Ok(None) => return Err(Refusal::new(Code::ThreadNotFound)),
                Ok(Some(page)) => Ok(Arc::new(page)),
                Err(error) => Err(error),
            },
            (None, Some(before)) => self.store.history(room, before, most).await.map(Arc::new),
            (None, None) => self.store.latest(room, most).await,
        };
        match page {
            Ok(page) => {
                let seen = page.seen(|message| grant.hidden.filter(message));
                Ok(vec![event::message_history(thread, &seen, page.has_more, page.cursor)])
            }
            Err(StoreError::UnknownCursor) => Err(Refusal::new(Code::UnknownCursor)),
            Err(error) => {
                tracing::warn!(%error, "history could not be read");
                Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)))
            }
        }
    }
}
