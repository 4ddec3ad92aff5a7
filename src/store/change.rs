//! Changes of messages that exist: one transaction each, exact when two do it at once.
//!
//! The message's row is locked first, and the change's place in the topic's log is taken under that lock: of one message,
//! order of commits and order of events are one. What changes nothing takes no place. Publishing is the caller's.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::link::Link;
use super::row::Columns;
use super::sql::{Sql, change};
use super::{Mark, Outlet, OutletError, Reserved, Store, StoreError, Subject, arguments};
use crate::domain::{Emoji, Hidden, Message, MessageId, RoomId, ThreadId, Topic, UserId};

/// How long a change waits for its message's lock.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How long the outlet has to reserve, while the message is locked.
const RESERVE: Duration = Duration::from_secs(1);
/// What a statement may take on the wire beyond what Postgres allows it.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How often a change is tried again because somebody else was in the way.
const CONFLICTS: u32 = 3;
/// How long a commit whose answer was lost is looked up.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Which message is changed, by whom, and where that is told.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub room: RoomId,
    pub message: MessageId,
    pub user: UserId,
    /// Whose messages do not exist for the user.
    pub hidden: &'a Hidden,
    /// Where it is told if the message is in no thread.
    pub topic: Topic,
}

/// What is done to a message.
#[derive(Clone, Debug)]
pub enum Change {
    /// Its author gives it another text. `mentions` is a JSON array of user ids.
    Edit {
        content: String,
        mentions: String,
        /// Set when a human is to look at it. An edit is not hidden: it is made or not.
        mark: Option<Mark>,
    },
    /// It becomes a message of type `deleted`. Who moderates may do it to others' and leaves a record.
    Delete {
        moderates: bool,
        is_staff: bool,
    },
    Pin {
        pinned: bool,
    },
    React {
        emoji: Emoji,
        added: bool,
    },
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It is committed and has this place in the topic's log, where the caller must publish it. The topic is the
    /// thread's if the message is in one.
    Done { effect: Effect, author: Option<UserId>, topic: Topic, place: Reserved },
    /// It was so already.
    AlreadySo,
    /// The room has no such message to show.
    Unknown,
    /// The message is somebody else's.
    NotTheirs,
    /// The message is in an archived thread.
    Archived,
}

/// What the event of a change needs.
#[derive(Debug)]
pub enum Effect {
    /// The message as it is now, and whom it mentioned before, as a JSON array of user ids.
    Edited {
        message: Box<Message>,
        mentioned: String,
    },
    Deleted,
    Pinned {
        pinned: bool,
    },
    /// `counts` is a JSON object emoji → count, equal to the rows.
    Reacted {
        emoji: Emoji,
        added: bool,
        counts: String,
    },
}

impl Effect {
    fn subject(&self, message: MessageId) -> Subject {
        match self {
            Self::Edited { message: now, mentioned: before } => {
                Subject::Edited { message, mentioned: now.mentioned_newly(before) }
            }
            Self::Deleted | Self::Pinned { .. } | Self::Reacted { .. } => Subject::Changed(message),
        }
    }
}

/// Why nothing can be said to be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no place for the event: {0}")]
    NoPlace(#[from] OutletError),
    #[error("the commit's answer was lost and Postgres cannot say what became of it")]
    Uncertain,
}

impl Change {
    fn sql<'a>(&self, sql: &'a Sql) -> &'a std::sync::Arc<str> {
        match self {
            Self::Edit { .. } => &sql.edit,
            Self::Delete { .. } => &sql.delete,
            Self::Pin { .. } => &sql.pin,
            Self::React { added: true, .. } => &sql.add_reaction,
            Self::React { added: false, .. } => &sql.remove_reaction,
        }
    }

    fn arguments(&self, target: &Target<'_>) -> Result<PgArguments, StoreError> {
        let (room, message, user) = (target.room.0, target.message.0, target.user.0);
        match self {
            Self::Edit { content, mentions, mark } => {
                let (content, mentions) = (content.as_str(), mentions.as_str());
                let queue_id = Mark::queue_id(mark.as_ref());
                let (reason, scores) =
                    mark.as_ref().map_or(("", "{}"), |mark| (mark.reason.as_str(), mark.scores.as_str()));
                arguments!(room, message, user, content, mentions, queue_id, reason, scores)
            }
            Self::Delete { moderates, is_staff } => {
                arguments!(room, message, user, *moderates, *is_staff, Uuid::new_v4())
            }
            Self::Pin { pinned } => arguments!(room, message, *pinned),
            Self::React { emoji, added: true } => arguments!(room, message, user, emoji.as_str(), Uuid::new_v4()),
            Self::React { emoji, added: false } => arguments!(room, message, user, emoji.as_str()),
        }
    }

    /// Whether a moderator does it as such. A block must not shield anybody from that: what is hidden may be deleted.
    fn is_moderation(&self) -> bool {
        matches!(self, Self::Delete { moderates: true, .. })
    }

    /// Reads what a changing statement answers.
    fn read(&self, target: &Target<'_>, rows: &[PgRow]) -> Result<Verdict, StoreError> {
        let Some(row) = rows.first() else { return Ok(Verdict::Nothing(Changed::Unknown)) };
        let mut columns = Columns::of(row);
        let verdict: &str = columns.take()?;
        let xid = columns.take()?;
        let thread = columns.take::<Option<Uuid>>()?;
        let author = columns.take::<Option<i64>>()?.map(UserId);
        if author.is_some_and(|author| target.hidden.hides(author)) && !self.is_moderation() {
            return Ok(Verdict::Nothing(Changed::Unknown));
        }
        let topic = thread.map_or(target.topic, |thread| Topic::Thread(ThreadId(thread)));
        let effect = match (verdict, self) {
            ("same", _) => return Ok(Verdict::Nothing(Changed::AlreadySo)),
            ("archived", _) => return Ok(Verdict::Nothing(Changed::Archived)),
            ("forbidden", _) => return Ok(Verdict::Nothing(Changed::NotTheirs)),
            ("unknown", _) => return Ok(Verdict::Nothing(Changed::Unknown)),
            (_, Self::Edit { .. }) => {
                let (mentioned, message) = (columns.take()?, columns.message()?);
                let message = message.ok_or_else(|| StoreError::Unreadable("an edit changed no row".to_owned()))?;
                Effect::Edited { message: Box::new(message), mentioned }
            }
            (_, Self::Delete { .. }) => Effect::Deleted,
            (_, Self::Pin { pinned }) => Effect::Pinned { pinned: *pinned },
            (_, Self::React { emoji, added }) => {
                Effect::Reacted { emoji: emoji.clone(), added: *added, counts: columns.take()? }
            }
        };
        Ok(Verdict::Changed(Begun { effect, author, topic, xid }))
    }
}

/// What a changing statement says.
enum Verdict {
    Nothing(Changed),
    Changed(Begun),
}

/// A change that is not committed yet.
struct Begun {
    effect: Effect,
    author: Option<UserId>,
    topic: Topic,
    xid: String,
}

impl Store {
    /// Changes a message, and takes the place of the event with it. What is done already is not done again.
    ///
    /// # Errors
    /// When Postgres or the outlet do not answer; nothing was changed then, but for [`ChangeError::Uncertain`].
    ///
    /// # Cancel safety
    /// A caller that goes away before the commit leaves nothing but an empty place; after it, an event that nobody
    /// publishes. So it must not be dropped.
    pub async fn change_message<O: Outlet>(
        &self,
        target: &Target<'_>,
        what: &Change,
        outlet: &O,
    ) -> Result<Changed, ChangeError> {
        let result = self.change_uncounted(target, what, outlet).await;
        if let Err(ChangeError::Store(error)) = &result {
            self.inner.metrics.store_failures_total.with_label_values(&[error.reason()]).inc();
        }
        result
    }

    async fn change_uncounted<O: Outlet>(
        &self,
        target: &Target<'_>,
        what: &Change,
        outlet: &O,
    ) -> Result<Changed, ChangeError> {
        let _permit = self.reader().await?;
        let (link, begun) = match self.changing(target, what).await? {
            Tried::Nothing(changed) => return Ok(changed),
            Tried::Changed(link, begun) => (link, begun),
        };
        let Begun { effect, author, topic, xid } = begun;
        let place = self.conclude(link, &xid, topic, &[effect.subject(target.message)], outlet).await?;
        Ok(Changed::Done { effect, author, topic, place })
    }

    /// Takes the place of a change's event and commits. `subject` is the message that is changed, if it is one. What
    /// fails leaves the place empty and nothing changed, but for [`ChangeError::Uncertain`].
    pub(super) async fn conclude<O: Outlet>(
        &self,
        mut link: Link,
        xid: &str,
        topic: Topic,
        subject: &[Subject],
        outlet: &O,
    ) -> Result<Reserved, ChangeError> {
        // An error from here on drops the link, which closes it and so undoes the change.
        let reserved = timeout(RESERVE, outlet.reserve_for(&[(topic, 1)], subject)).await;
        let reserved = reserved.map_err(|_| OutletError("it did not answer in time".to_owned()))??;
        let place = reserved.first().copied().ok_or_else(|| OutletError("it gave no place".to_owned()))?;

        let committed = link.command("COMMIT".to_owned(), self.inner.statement_timeout + GRACE).await;
        let outcome = match committed.map_err(StoreError::from) {
            Ok(()) => {
                link.give_back();
                Ok(place)
            }
            // Only a refusal says that the transaction is undone.
            Err(error @ StoreError::Refused(_)) => Err(error.into()),
            Err(error) => match self.came_through(xid).await {
                Some(true) => Ok(place),
                Some(false) => Err(error.into()),
                None => Err(ChangeError::Uncertain),
            },
        };
        if outcome.is_err() {
            outlet.void(vec![(topic, place, 1)]).await;
        }
        outcome
    }

    /// Locks and changes, and leaves the transaction open; or ends it, when there was nothing to change.
    async fn changing(&self, target: &Target<'_>, what: &Change) -> Result<Tried, StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.changing_once(target, what).await {
                // A deadlock, a serialisation failure, or a connection that was dead: at once, it may work.
                Err(StoreError::Refused(refusal))
                    if tries < CONFLICTS && ["40001", "40P01"].contains(&refusal.code.as_str()) => {}
                Err(StoreError::Unreachable(_)) if tries == 1 => {}
                other => return other,
            }
        }
    }

    async fn changing_once(&self, target: &Target<'_>, what: &Change) -> Result<Tried, StoreError> {
        let statement = self.inner.statement_timeout + GRACE;
        let begin = change::begin(target.message.0, LOCK_WAIT.as_millis(), self.inner.statement_timeout.as_millis());
        let mut link = self.link().await?;
        link.command(begin, LOCK_WAIT + statement).await?;
        let rows = link.rows(what.sql(&self.inner.sql), what.arguments(target)?, statement).await?;
        match what.read(target, &rows)? {
            Verdict::Changed(begun) => Ok(Tried::Changed(link, begun)),
            Verdict::Nothing(changed) => {
                link.command("ROLLBACK".to_owned(), statement).await?;
                link.give_back();
                Ok(Tried::Nothing(changed))
            }
        }
    }

    /// Asks Postgres whether a transaction was committed; `None` when it cannot say.
    async fn came_through(&self, xid: &str) -> Option<bool> {
        tracing::warn!("the answer to a commit was lost: looking it up");
        let give_up = Instant::now() + LOOK_UP;
        let mut pause = Duration::from_millis(20);
        while Instant::now() < give_up {
            if let Ok(rows) = self.read_once(&self.inner.sql.outcome, arguments!(xid).ok()?).await {
                let word = rows.first().and_then(|row| Columns::of(row).take::<Option<String>>().ok().flatten());
                match word.as_deref() {
                    Some("committed") => return Some(true),
                    Some("aborted") => return Some(false),
                    Some(_) => {}
                    None => return None,
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        None
    }
}

/// A transaction after its statement.
enum Tried {
    Nothing(Changed),
    Changed(Link, Begun),
}
