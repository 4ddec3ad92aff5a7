//! People and their roles.

use super::UserId;

/// A user as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Key in the user table.
    pub id: UserId,
    /// Login name, shown to others.
    pub username: String,
    /// Picture, if one is set.
    pub avatar_url: Option<String>,
    /// May use Django's admin: moderates everywhere.
    pub is_staff: bool,
}

/// A member's role in one room, as `community_roommembership.role` stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Admin,
    Moderator,
    Trusted,
    Member,
    /// Reads, does not write.
    Muted,
    /// Does neither.
    Banned,
}

impl Role {
    /// Reads the stored word. Unknown words read as [`Role::Member`]: Django's choices are not checked by the
    /// database, and a new one must not lock its holders out.
    #[must_use]
    pub fn from_stored(word: &str) -> Self {
        match word {
            "owner" => Self::Owner,
            "admin" => Self::Admin,
            "moderator" => Self::Moderator,
            "trusted" => Self::Trusted,
            "muted" => Self::Muted,
            "banned" => Self::Banned,
            _ => Self::Member,
        }
    }

    /// Says whether the role may moderate others' messages.
    #[must_use]
    pub fn moderates(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Moderator)
    }
}
