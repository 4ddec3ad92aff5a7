//! The choice of the credential, and its check.

use std::fmt;

use super::cache::{CacheError, DjangoCache};
use super::jwt::{Claims, JwtError, Verifier};
use super::token::{ConnectionToken, TokenError};
use crate::config::Live;
use crate::domain::{Micros, UserId};

/// What a client shows of itself. An empty string counts as absent, as it does for Django.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `?resume_token=`, which goes before all others and is the session's affair.
    pub resume_token: Option<String>,
    /// `?connection_token=`
    pub connection_token: Option<String>,
    /// The JWT in the HTTP-only cookie.
    pub cookie_jwt: Option<String>,
    /// `?token=`
    pub query_jwt: Option<String>,
}

/// Says which credentials are there, never what they are.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("resume_token", &self.resume_token.is_some())
            .field("connection_token", &self.connection_token.is_some())
            .field("cookie_jwt", &self.cookie_jwt.is_some())
            .field("query_jwt", &self.query_jwt.is_some())
            .finish()
    }
}

/// The kind of credential that let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Token,
    Cookie,
    Query,
    Ticket,
}

impl Credential {
    /// The word that logs and metric labels use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Cookie => "cookie",
            Self::Query => "query",
            Self::Ticket => "ticket",
        }
    }
}

/// Somebody whose credential was good. That the account exists and is active is still to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    pub credential: Credential,
    /// The session that this login belongs to: a JWT's own claim, or without one, and for a token, the version now in
    /// force. `None` when Django keeps none.
    pub session_version: Option<i64>,
    /// When Django made a connection token.
    pub minted: Option<Micros>,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("no credential was given")]
    Missing,
    #[error("the connection token is unknown, used or expired")]
    UnknownToken,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error("the session has ended: its version is no longer in force")]
    SessionEnded,
    /// Not the client's fault: to be told to come back later.
    #[error("credentials cannot be checked now: {0}")]
    Unavailable(#[from] CacheError),
}

impl LoginError {
    /// A short stable word for logs, metrics and close reasons.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::UnknownToken | Self::Token(TokenError::Used) => "unknown_or_used",
            Self::Token(_) | Self::Jwt(JwtError::Malformed | JwtError::TooLong | JwtError::Claim(_)) => "malformed",
            Self::Jwt(JwtError::Signature) => "bad_signature",
            Self::Jwt(JwtError::Expired) => "expired",
            Self::Jwt(JwtError::NotYet) => "not_yet_valid",
            Self::SessionEnded => "session_ended",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Says whether the fault is ours and the same credential may be good later (close 1013, not 4001).
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Checks credentials against Django's cache and key.
#[derive(Debug)]
pub struct Login {
    cache: DjangoCache,
    verifier: Live<Verifier>,
}

impl Login {
    /// The versions that users' sessions must not be older than, in their order. `None` where Django keeps none.
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn session_versions(&self, users: &[UserId]) -> Result<Vec<Option<i64>>, CacheError> {
        self.cache.session_versions(users).await
    }

    /// Puts the parts together.
    #[must_use]
    pub fn new(cache: DjangoCache, verifier: Verifier) -> Self {
        Self { cache, verifier: Live::new(verifier) }
    }

    /// Checks with another key from now on.
    pub fn set_verifier(&self, verifier: Verifier) {
        self.verifier.set(verifier);
    }

    /// Django's cache, for what goes beyond login (activity, health).
    #[must_use]
    pub fn cache(&self) -> &DjangoCache {
        &self.cache
    }

    /// Finds out who shows these credentials, at the time `now`.
    ///
    /// One credential is chosen, and it alone decides: a connection token, else the cookie, else the query's JWT. A bad
    /// one never falls through to the next, as in Django, where the next would be somebody else's session.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`] when the cache does not answer; everything else is a refusal.
    pub async fn identify(&self, credentials: Credentials, now: Micros) -> Result<Identity, LoginError> {
        let given = |credential: Option<String>| credential.filter(|text| !text.is_empty());
        if let Some(token) = given(credentials.connection_token) {
            return self.identify_token(&token).await;
        }
        if let Some(jwt) = given(credentials.cookie_jwt) {
            return self.identify_jwt(&jwt, Credential::Cookie, now).await;
        }
        if let Some(jwt) = given(credentials.query_jwt) {
            return self.identify_jwt(&jwt, Credential::Query, now).await;
        }
        Err(LoginError::Missing)
    }

    /// A token is used up by being asked for, whatever is wrong with it.
    async fn identify_token(&self, token: &str) -> Result<Identity, LoginError> {
        let value = self.cache.take_token(token).await?.ok_or(LoginError::UnknownToken)?;
        let ConnectionToken { user_id: user, created_at, .. } = ConnectionToken::parse(&value)?;
        let session_version = self.cache.session_version(user).await?;
        Ok(Identity { user, credential: Credential::Token, session_version, minted: Some(created_at) })
    }

    async fn identify_jwt(&self, jwt: &str, credential: Credential, now: Micros) -> Result<Identity, LoginError> {
        let Claims { user, session_version: claimed } = self.verifier.load().verify(jwt, now)?;
        let session_version = match (claimed, self.cache.session_version(user).await) {
            (Some(_), Err(error)) => return Err(error.into()),
            (Some(claimed), Ok(Some(current))) if claimed != current => return Err(LoginError::SessionEnded),
            (Some(claimed), Ok(_)) => Some(claimed),
            // It names none, so that none can be wrong. What is in force says which logout is after it.
            (None, current) => current.unwrap_or_default(),
        };
        Ok(Identity { user, credential, session_version, minted: None })
    }
}
