//! `request_history`: a page of older messages.

use std::sync::Arc;
use std::time::Duration;

use super::{Commands, Replies};
use crate::access::Grant;
use crate::domain::MessageId;
use crate::store::StoreError;
use crate::wire::{Code, Refusal, event};

impl Commands {
    pub(super) async fn history(
        &self,
        grant: &Grant,
        before: Option<MessageId>,
        limit: u16,
    ) -> Result<Replies, Refusal> {
        let page = match before {
            Some(before) => self.store.history(grant.room.id, before, u32::from(limit)).await.map(Arc::new),
            None => self.store.latest(grant.room.id, u32::from(limit)).await,
        };
        match page {
            Ok(page) => {
                let seen: Vec<_> = page.messages.iter().filter_map(|message| grant.hidden.filter(message)).collect();
                let seen: Vec<_> = seen.iter().map(AsRef::as_ref).collect();
                Ok(vec![event::message_history(&seen, page.has_more, page.cursor)])
            }
            Err(StoreError::UnknownCursor) => Err(Refusal::new(Code::UnknownCursor)),
            Err(error) => {
                tracing::warn!(%error, "history could not be read");
                Err(Refusal::after(Code::Unavailable, Duration::from_secs(1)))
            }
        }
    }
}
