//! More of the log for one user or one room, for a while.
//!
//! Owns who is followed. While nobody is, it costs one atomic load a command.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use uuid::Uuid;

use crate::domain::UserId;

/// How many may be followed at once; of more, the one that ends first is given up.
const MOST: usize = 64;

/// How long an operator's wish to see more holds.
pub const LENGTH: Duration = Duration::from_secs(600);

/// Who or what is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A user, wherever they are.
    User(UserId),
    /// A room, or a direct conversation by its thread.
    Place(Uuid),
}

struct Following {
    followed: Followed,
    level: Level,
    until: Instant,
}

/// The process has one log, so it has one list.
static ALL: RwLock<Vec<Following>> = RwLock::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The level of what is being worked on by this thread.
    static NOW: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Logs all of this level for a while; `None` ends that.
pub fn follow(followed: Followed, level: Option<Level>, length: Duration) {
    {
        let mut all = ALL.write();
        let now = Instant::now();
        all.retain(|following| following.followed != followed && following.until > now);
        if let Some(level) = level {
            if all.len() >= MOST {
                all.sort_by_key(|following| following.until);
                all.remove(0);
            }
            all.push(Following { followed, level, until: now + length });
        }
        COUNT.store(all.len(), Ordering::Release);
    }
    // What is logged where was remembered by each line of code.
    tracing::callsite::rebuild_interest_cache();
}

/// The level at which a user's doings in a place are logged, if they are followed.
#[must_use]
pub fn level(user: UserId, place: Option<Uuid>) -> Option<Level> {
    if !is_any() {
        return None;
    }
    let now = Instant::now();
    let concerns = |followed| match followed {
        Followed::User(id) => id == user,
        Followed::Place(id) => place == Some(id),
    };
    let all = ALL.read();
    let levels = all.iter().filter(|following| following.until > now && concerns(following.followed));
    // The one that says more is the greater.
    levels.map(|following| following.level).max()
}

/// Whether anybody is followed.
pub(super) fn is_any() -> bool {
    COUNT.load(Ordering::Acquire) > 0
}

/// The most that any line may need to say.
pub(super) fn most() -> Option<LevelFilter> {
    ALL.read().iter().map(|following| LevelFilter::from_level(following.level)).max()
}

/// Whether a line belongs to what is followed on this thread right now. Dependencies say too much.
pub(super) fn wants(line: &Metadata<'_>) -> bool {
    line.target().starts_with("community_gateway") && NOW.get().is_some_and(|level| *line.level() <= level)
}

/// Does a piece of work, with its own level of the log.
pub fn scoped<F: Future>(level: Option<Level>, work: Pin<Box<F>>) -> Scoped<F> {
    Scoped { level, work }
}

/// Work with its own level of the log. See [`scoped`].
pub struct Scoped<F> {
    level: Option<Level>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.level.is_none() {
            return self.work.as_mut().poll(context);
        }
        /// Put back also when the work panics: the thread lives on.
        struct Before(Option<Level>);
        impl Drop for Before {
            fn drop(&mut self) {
                NOW.set(self.0);
            }
        }
        let _before = Before(NOW.replace(self.level));
        self.work.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_followed_is_so_for_a_while() {
        let (ada, lounge) = (UserId(1_000_001), Uuid::from_u128(7));
        assert_eq!(level(ada, Some(lounge)), None);
        follow(Followed::User(ada), Some(Level::DEBUG), Duration::from_secs(600));
        follow(Followed::Place(lounge), Some(Level::TRACE), Duration::from_secs(600));
        assert_eq!(level(ada, None), Some(Level::DEBUG));
        assert_eq!(level(ada, Some(lounge)), Some(Level::TRACE), "the one that says more");
        assert_eq!(level(UserId(1_000_002), None), None);
        follow(Followed::Place(lounge), None, Duration::ZERO);
        follow(Followed::User(ada), Some(Level::DEBUG), Duration::ZERO);
        assert_eq!(level(ada, Some(lounge)), None, "its time is over");
        follow(Followed::User(ada), None, Duration::ZERO);
    }
}
