//! One transaction of the writer: lock, write and reserve at once, commit.

use std::time::{Duration, Instant};

use futures_util::future::join;
use sqlx::postgres::{PgArguments, PgRow};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Draft, Outlet, Rejection, Reserved, Stored, Subject, WriteError};
use crate::domain::{MessageId, Micros, ReplyPreview, Topic};
use crate::store::link::Link;
use crate::store::row::Columns;
use crate::store::{Mark, Store, StoreError, arguments, sql};

/// How long the outlet has to reserve, while rooms are locked.
const RESERVE: Duration = Duration::from_secs(1);

/// What a statement may take on the wire beyond what Postgres allows it.
const GRACE: Duration = Duration::from_secs(1);

/// Consecutive places of topics: the first of them, and how many.
pub(super) type Places = Vec<(Topic, Reserved, u32)>;

/// What became of a transaction's messages.
#[derive(Debug)]
pub(super) struct Written {
    /// Of each message, in order, whether it is stored, and at which place.
    pub verdicts: Vec<Result<Stored, WriteError>>,
    /// The places of those that are not: nothing comes there.
    pub void: Places,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Fault {
    /// One of the rows is at fault; alone, it is rejected for this.
    Row(Rejection),
    /// A room is locked by somebody else.
    Locked,
    /// Somebody else was in the way; at once, it may work.
    Conflict,
    /// Postgres or the outlet does not work.
    Down(StoreError),
    /// The outlet did not reserve.
    NoOffsets(String),
    /// The commit was sent and its answer is unknown.
    Unknown(Unknown),
}

/// A transaction whose outcome must be looked up.
#[derive(Debug)]
pub(super) struct Unknown {
    /// Postgres's id of the transaction.
    pub xid: String,
    /// The messages it would have written.
    pub ids: Vec<Uuid>,
    /// What is true if it was committed.
    pub written: Written,
    /// What must be voided if it was not.
    pub places: Places,
}

/// A transaction that did not come through, with the places that stay empty.
#[derive(Debug)]
pub(super) struct Failed {
    pub fault: Fault,
    pub places: Places,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, places: Vec::new() }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Fault::from(error).into()
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let StoreError::Refused(refusal) = &error else { return Self::Down(error) };
        match refusal.code.as_str() {
            "55P03" => Self::Locked,
            "40001" | "40P01" | "23503" => Self::Conflict,
            "23505" => Self::Row(Rejection::Duplicate),
            code if code.starts_with("22") || code.starts_with("23") || code == "54000" => {
                Self::Row(Rejection::Invalid)
            }
            _ => Self::Down(error),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        // A missing author is the message's own fault. Anything else it points to was there when the statement looked,
        // and somebody took it away at this very moment. The constraint's name is Django's affair; the column is in the detail, before any value.
        if let sqlx::Error::Database(about) = &error
            && about.code().as_deref() == Some("23503")
            && about
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(sqlx::postgres::PgDatabaseError::detail)
                .is_some_and(|detail| detail.contains("(author_id)") || detail.contains("(target_user_id)"))
        {
            return Self::Row(Rejection::AuthorGone);
        }
        StoreError::from(error).into()
    }
}

impl Store {
    /// Writes messages in one transaction. When it fails, nothing of it is left but the places it names, and, with
    /// [`Fault::Unknown`], the question.
    pub(super) async fn write_batch<O: Outlet>(
        &self,
        drafts: &[&Draft],
        lock_wait: Duration,
        outlet: &O,
    ) -> Result<Written, Failed> {
        let mut rooms: Vec<Uuid> = drafts.iter().map(|draft| draft.room_id.0).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let (statement, prepared) = (self.inner.statement_timeout, !self.inner.pgbouncer);
        let begin = sql::begin(&rooms, lock_wait.as_millis(), statement.as_millis(), prepared);
        let limit = lock_wait + self.statement();

        let started = Instant::now();
        let mut link = self.link().await?;
        let mut locked = link.command(begin.clone(), limit).await;
        if locked.as_ref().is_err_and(|error| matches!(error, sqlx::Error::Io(_))) {
            link = self.link().await?; // the first connection was dead: nothing was begun
            locked = link.command(begin, limit).await;
        }
        let result = match locked {
            Ok(()) => self.write_locked(&mut link, drafts, outlet).await,
            Err(error) => Err(error.into()),
        };
        match &result {
            Ok(_) => {
                link.give_back();
                self.inner.metrics.write_seconds.observe(started.elapsed().as_secs_f64());
            }
            Err(Failed { fault: Fault::Down(_) | Fault::Unknown(_), .. }) => drop(link), // closes it
            Err(_) => {
                if link.command("ROLLBACK".to_owned(), self.statement()).await.is_ok() {
                    link.give_back();
                }
            }
        }
        result
    }

    /// Writes messages whose rooms are locked, and ends the transaction if that works.
    ///
    /// Postgres's rows and Redis's places need no more than the locks, so they are asked for together, and a room is
    /// locked for a round trip less. The price is a place that stays empty when Postgres refuses its message after all.
    async fn write_locked<O: Outlet>(&self, link: &mut Link, drafts: &[&Draft], outlet: &O) -> Result<Written, Failed> {
        let early: Vec<_> = drafts.iter().copied().filter(|draft| is_placed_early(draft)).collect();
        let (placed, taken) = join(self.place(link, drafts), take(outlet, &early)).await;
        let (mut places, mut refused) = match taken {
            Ok(places) => (places, None),
            Err(fault) => (Places::new(), Some(fault)),
        };
        let (xid, mut placed) = match placed {
            Ok(placed) => placed,
            Err(fault) => return Err(Failed { fault, places }),
        };
        let late = |draft: &Draft| !draft.is_hidden() && !is_placed_early(draft);
        let late = drafts.iter().zip(&placed).filter(|(draft, row)| row.verdict.is_ok() && late(draft));
        let late: Vec<_> = late.map(|(draft, _)| *draft).collect();
        if refused.is_none() {
            match take(outlet, &late).await {
                Ok(more) => places.extend(more),
                Err(fault) => refused = Some(fault),
            }
        }
        if let Some(fault) = refused {
            return Err(Failed { fault, places });
        }

        let void = number(drafts, &mut placed, &places);
        let accepted = drafts.iter().zip(&placed).filter(|(_, row)| row.verdict.is_ok());
        let ids: Vec<Uuid> = accepted.map(|(draft, _)| draft.id.0).collect();
        let written = Written { verdicts: placed.into_iter().map(Placed::verdict).collect(), void };
        let end = if ids.is_empty() { "ROLLBACK" } else { "COMMIT" };
        match link.command(end.to_owned(), self.statement()).await.map_err(Fault::from) {
            Ok(()) => Ok(written),
            // Only a refusal says that the transaction is undone. A broken connection or a missed deadline says nothing.
            Err(Fault::Down(error)) if !ids.is_empty() && !matches!(error, StoreError::Refused(_)) => {
                Err(Fault::Unknown(Unknown { xid, ids, written, places }).into())
            }
            Err(fault) => Err(Failed { fault, places }),
        }
    }

    /// Writes the rows, and tells the transaction's id and what it says of each message.
    async fn place(&self, link: &mut Link, drafts: &[&Draft]) -> Result<(String, Vec<Placed>), Fault> {
        let sql = &self.inner.sql;
        let rows = if drafts.iter().all(|draft| is_plain(draft)) {
            link.rows(&sql.write_plain, pack_plain(drafts)?, self.statement()).await?
        } else {
            link.rows(&sql.write, pack(drafts)?, self.statement()).await?
        };
        let placed = rows.iter().map(Placed::read).collect::<Result<Vec<_>, _>>()?;
        if placed.len() != drafts.len() {
            return Err(StoreError::Unreadable("a batch came back incomplete".to_owned()).into());
        }
        let xid = rows.first().map_or(Ok(String::new()), |row| Columns::at(row, XID).take())?;
        Ok((xid, placed))
    }

    /// How long a statement may take, the wire included.
    fn statement(&self) -> Duration {
        self.inner.statement_timeout + GRACE
    }

    /// Says whether a transaction was committed; `None` while Postgres itself does not know yet.
    pub(super) async fn was_committed(&self, unknown: &Unknown) -> Result<Option<bool>, StoreError> {
        // A status that cannot be had (another server after a failover, a transaction long past) leaves it to the rows.
        let status = self.read(|sql| &sql.outcome, arguments!(unknown.xid.as_str())).await;
        match status {
            Ok(rows) => {
                let word = rows.first().map_or(Ok(None), |row| Columns::of(row).take::<Option<String>>())?;
                if word.as_deref() == Some("in progress") {
                    return Ok(None);
                }
            }
            Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let rows = self.read(|sql| &sql.present, arguments!(unknown.ids.as_slice())).await?;
        let present = rows.first().map_or(Ok(0), |row| Columns::of(row).take::<i64>())?;
        Ok(Some(present > 0))
    }
}

/// Says whether a message's place is taken before Postgres has said that it takes it. Not one in a thread: it may be
/// none, or another room's, whose log is no business of who only names it.
fn is_placed_early(draft: &Draft) -> bool {
    !draft.is_hidden() && draft.thread_id.is_none()
}

/// Takes the next places of these messages' topics.
async fn take<O: Outlet>(outlet: &O, drafts: &[&Draft]) -> Result<Places, Fault> {
    if drafts.is_empty() {
        return Ok(Places::new());
    }
    let wanted = wanted(drafts);
    match timeout(RESERVE, outlet.reserve_for(&wanted, &subjects(drafts, &wanted))).await {
        Ok(Ok(reserved)) if reserved.len() == wanted.len() => {
            Ok(wanted.into_iter().zip(reserved).map(|((topic, n), place)| (topic, place, n)).collect())
        }
        Ok(Ok(_)) => Err(Fault::NoOffsets("the outlet gave another number of places".to_owned())),
        Ok(Err(error)) => Err(Fault::NoOffsets(error.to_string())),
        Err(_) => Err(Fault::NoOffsets("the outlet did not answer in time".to_owned())),
    }
}

/// One row of the writing statement's answer.
struct Placed {
    verdict: Result<(), WriteError>,
    stored: Stored,
}

/// Where the transaction's id stands in the writing statement's answer.
const XID: usize = 7;
/// Where the count of its thread's messages stands.
const THREAD_COUNT: usize = 8;

impl Placed {
    fn verdict(self) -> Result<Stored, WriteError> {
        self.verdict.map(|()| self.stored)
    }

    fn read(row: &PgRow) -> Result<Self, StoreError> {
        let mut columns = Columns::of(row);
        let verdict = match columns.take::<&str>()? {
            "ok" => Ok(()),
            "archived" => Err(WriteError::Rejected(Rejection::Archived)),
            "thread" => Err(WriteError::Rejected(Rejection::UnknownThread)),
            "thread_locked" => Err(WriteError::Rejected(Rejection::ThreadLocked)),
            "thread_archived" => Err(WriteError::Rejected(Rejection::ThreadArchived)),
            _ => Err(WriteError::RoomGone),
        };
        let created_at: Micros = columns.time()?.unwrap_or_default();
        let answered = columns.take::<Option<Uuid>>()?.map(MessageId);
        let is_shown = columns.take::<Option<bool>>()?.unwrap_or_default();
        let preview = columns.reply_of(answered)?;
        let reply: Option<ReplyPreview> = preview.filter(|_| is_shown);
        let thread_count = Columns::at(row, THREAD_COUNT).take()?;
        let stored = Stored { created_at, epoch: 0, offset: 0, reply, reply_to_id: answered, thread_count };
        Ok(Self { verdict, stored })
    }
}

/// Counts the places each topic needs, topics in the order of their first message.
fn wanted(drafts: &[&Draft]) -> Vec<(Topic, u32)> {
    let mut wanted: Vec<(Topic, u32)> = Vec::new();
    for draft in drafts {
        match wanted.iter_mut().find(|(topic, _)| *topic == draft.topic) {
            Some((_, count)) => *count += 1,
            None => wanted.push((draft.topic, 1)),
        }
    }
    wanted
}

/// What each place will be for, in the order of the places.
fn subjects(drafts: &[&Draft], wanted: &[(Topic, u32)]) -> Vec<Subject> {
    let of = |(topic, _): &(Topic, u32)| {
        let topic = *topic;
        let subject = |draft: &&Draft| Subject::New { message: draft.id, addressed: draft.is_addressed() };
        drafts.iter().filter(move |draft| draft.topic == topic).map(subject)
    };
    wanted.iter().flat_map(of).collect()
}

/// Gives the messages their places, in order, and returns the places of those that were not accepted after all.
fn number(drafts: &[&Draft], placed: &mut [Placed], places: &[(Topic, Reserved, u32)]) -> Places {
    let mut next: Vec<(Topic, Reserved)> = places.iter().map(|&(topic, place, _)| (topic, place)).collect();
    let mut void = Vec::new();
    for (draft, row) in drafts.iter().zip(placed) {
        let has_place = !draft.is_hidden() && (row.verdict.is_ok() || is_placed_early(draft));
        let Some((_, place)) = next.iter_mut().find(|(topic, _)| has_place && *topic == draft.topic) else { continue };
        if row.verdict.is_ok() {
            (row.stored.epoch, row.stored.offset) = (place.epoch, place.first);
        } else {
            void.push((draft.topic, *place, 1));
        }
        place.first += 1;
    }
    void
}

fn marks<'d>(drafts: &[&'d Draft], what: impl Fn(&'d Mark) -> &'d str) -> Vec<Option<&'d str>> {
    drafts.iter().map(|draft| draft.mark.as_ref().map(&what)).collect()
}

/// Nothing but its room is looked at or changed for it.
fn is_plain(draft: &Draft) -> bool {
    draft.dm_thread.is_none() && draft.thread_id.is_none() && draft.reply_to.is_none() && draft.mark.is_none()
}

/// The arrays of the statement that writes plain messages.
fn pack_plain(drafts: &[&Draft]) -> Result<PgArguments, StoreError> {
    arguments!(
        drafts.iter().map(|draft| draft.id.0).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.room_id.0).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.author.0).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.content.as_str()).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.message_type).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.attachments.as_str()).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.mentions.as_str()).collect::<Vec<_>>(),
    )
}

/// The arrays of the statement that writes any messages: those of the plain ones, and more.
fn pack(drafts: &[&Draft]) -> Result<PgArguments, StoreError> {
    arguments!(pack_plain(drafts)?;
        drafts.iter().map(|draft| draft.reply_to.map(|id| id.0)).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.thread_id.map(|id| id.0)).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.dm_thread.map(|id| id.0)).collect::<Vec<_>>(),
        drafts.iter().map(|draft| draft.moderates).collect::<Vec<_>>(),
        drafts.iter().map(|draft| Mark::queue_id(draft.mark.as_ref())).collect::<Vec<_>>(),
        drafts.iter().map(|draft| Mark::action_id(draft.mark.as_ref())).collect::<Vec<_>>(),
        marks(drafts, |mark| mark.source),
        marks(drafts, |mark| &mark.reason),
        marks(drafts, |mark| &mark.scores),
    )
}
