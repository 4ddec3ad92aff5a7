//! How far a user is trusted: a level made of what Django stores, the same on every instance.

use super::{Micros, Role};

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// The day from which on days add nothing.
const LAST_DAY: i64 = 14;

/// A level of trust. A room's integers 0, 1 and 2 mean the same, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Posts no links and no attachments, and waits twice as long in slow mode.
    New,
    /// Ten messages and three days.
    Member,
    /// Fifty messages and fourteen days, or whom a room or the site trusts by role. Slow mode does not apply.
    Trusted,
}

impl Trust {
    /// The level of a user: `messages` sent in all rooms, `since` when, and what a role in this room or the site adds.
    #[must_use]
    pub fn of(messages: i64, since: Micros, now: Micros, role: Option<Role>, is_staff: bool) -> Self {
        if is_staff || matches!(role, Some(Role::Owner | Role::Admin | Role::Moderator | Role::Trusted)) {
            return Self::Trusted;
        }
        let days = (now.0 - since.0) / DAY;
        match (messages, days) {
            (50.., LAST_DAY..) => Self::Trusted,
            (10.., 3..) => Self::Member,
            _ => Self::New,
        }
    }

    /// Whether time alone may still raise the level of who is there since then.
    #[must_use]
    pub fn grows(since: Micros, now: Micros) -> bool {
        (now.0 - since.0) / DAY < LAST_DAY
    }

    /// The level that a room's integer asks for; what is above the known ones asks for the highest.
    #[must_use]
    pub fn from_stored(level: i32) -> Self {
        match level {
            ..=0 => Self::New,
            1 => Self::Member,
            _ => Self::Trusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_need_messages_and_days() {
        let level = |messages, days: i64| Trust::of(messages, Micros(0), Micros(days * DAY), None, false);
        assert_eq!(level(9, 100), Trust::New);
        assert_eq!(level(10, 2), Trust::New);
        assert_eq!(level(10, 3), Trust::Member);
        assert_eq!(level(1_000, 13), Trust::Member);
        assert_eq!(level(49, 14), Trust::Member);
        assert_eq!(level(50, 14), Trust::Trusted);
    }

    #[test]
    fn time_alone_raises_no_level_once_it_has_raised_the_last() {
        for days in 0..20 {
            let (now, later) = (Micros(days * DAY), Micros(1_000 * DAY));
            let rises = (0..100).any(|messages| {
                Trust::of(messages, Micros(0), now, None, false) != Trust::of(messages, Micros(0), later, None, false)
            });
            assert_eq!(Trust::grows(Micros(0), now), rises, "after {days} days");
        }
    }

    #[test]
    fn roles_and_staff_are_trusted_at_once() {
        let level = |role, is_staff| Trust::of(0, Micros(0), Micros(0), role, is_staff);
        assert_eq!(level(Some(Role::Trusted), false), Trust::Trusted);
        assert_eq!(level(Some(Role::Moderator), false), Trust::Trusted);
        assert_eq!(level(Some(Role::Member), false), Trust::New);
        assert_eq!(level(None, true), Trust::Trusted);
    }
}
