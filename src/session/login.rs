//! Who comes in: login, admission, rights.

use std::time::Duration;

use futures_util::future::join3;

use super::{Guest, Sessions};
use crate::access::Denied;
use crate::access::admission::{AdmissionError, Reason};
use crate::domain::{ConnectionId, Micros, UserId, Venue};
use crate::identity::{Credentials, Identity, LoginError};
use crate::socket::{Class, Frame, Outbox};
use crate::wire::{Close, event};

impl Sessions {
    /// Login, admission, rights: in this order, so that a token is used up whatever is wrong with the rest.
    pub(super) async fn let_in(
        &self,
        connection: ConnectionId,
        venue: Venue,
        credentials: Credentials,
        outbox: &Outbox,
    ) -> Result<Guest, Close> {
        let (identity, returning) = match credentials.resume_token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => self.redeem(token).await.map(|(identity, former)| (identity, Some(former)))?,
            None => (self.identify(credentials).await?, None),
        };
        // What needs no order is asked together. Rights are not: who is refused here costs Postgres nothing.
        let admitting = self.admission.admit(identity.user, connection, returning.map(|former| former.connection));
        let (admitted, generation) = match returning {
            Some(former) => (admitting.await, Ok(Some(former.generation))),
            None => {
                let noting = self.note_activity(identity.user);
                let (admitted, generation, ()) = join3(admitting, self.tickets.generation(&identity), noting).await;
                (admitted, generation)
            }
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(AdmissionError::Refused { reason, retry_after }) => {
                self.hits.note(
                    identity.user,
                    match reason {
                        Reason::Connections => "connections",
                        Reason::Connects => "connects",
                    },
                );
                let close = too_many(reason, retry_after, outbox);
                if let Some(former) = returning {
                    // In place of the one that is used up; who is not admitted keeps the place that it came back for.
                    self.tickets.give(&identity, Some(former.generation), former.connection, outbox);
                }
                return Err(close);
            }
            Err(error) => {
                tracing::warn!(%error, "an admission could not be counted");
                let place = returning.map_or(connection, |former| former.connection);
                return Err(self.tickets.put_off(&identity, generation?, place, outbox));
            }
        };
        let rights = match venue {
            Venue::App => self.check_account(identity.user).await.map(|()| None),
            _ if returning.is_some() => self.access.grants().of_returning(venue, identity.user).await.map(Some),
            _ => self.access.grants().look_up(venue, identity.user).await.map(Some),
        };
        if let Err(denied @ (Denied::NotAuthenticated | Denied::NotFound | Denied::Forbidden)) = &rights {
            return Err(closes(denied));
        }
        let generation = generation?;
        let grant = rights.map_err(|unavailable| {
            closes(&unavailable);
            self.tickets.put_off(&identity, generation, connection, outbox)
        })?;
        Ok(Guest { identity, grant, returned: returning.is_some(), generation, admitted })
    }

    /// No room, no rights: but an account in order.
    async fn check_account(&self, user: UserId) -> Result<(), Denied> {
        let account = self.commands.store.account(user).await?;
        account.filter(|account| account.is_active).map(|_| ()).ok_or(Denied::NotAuthenticated)
    }

    async fn identify(&self, credentials: Credentials) -> Result<Identity, Close> {
        let result = self.login.identify(credentials, Micros::now()).await;
        let (credential, outcome) = match &result {
            Ok(identity) => (identity.credential.as_str(), "ok"),
            Err(error) => ("any", error.reason()),
        };
        self.metrics.logins_total.with_label_values(&[credential, outcome]).inc();
        result.map_err(|error| match error {
            LoginError::Unavailable(_) => {
                tracing::warn!(%error, "a login could not be checked");
                Close::TRY_LATER
            }
            LoginError::SessionEnded => Close::SESSION_ENDED,
            _ => Close::NOT_AUTHENTICATED,
        })
    }

    /// Tells Django that the user is active, as its own login would. Not worth a refusal when it fails.
    async fn note_activity(&self, user: UserId) {
        if let Err(error) = self.login.cache().refresh_activity(user, Micros::now()).await {
            tracing::debug!(%error, "activity was not refreshed");
        }
    }
}

/// Tells the client how long to wait, in an event, because a close frame cannot.
fn too_many(reason: Reason, retry_after: Duration, outbox: &Outbox) -> Close {
    let (close, code) = match reason {
        Reason::Connections => (Close::TOO_MANY_CONNECTIONS, "too_many_connections"),
        Reason::Connects => (Close::TOO_MANY_CONNECTS, "too_many_connects"),
    };
    let told = event::closing_error(close.reason, code, Some(retry_after));
    let _ = outbox.push(&Frame::text(&told), Class::Message);
    close
}

/// What a denial is at the door.
pub(super) fn closes(denied: &Denied) -> Close {
    match denied {
        Denied::NotAuthenticated => Close::NOT_AUTHENTICATED,
        Denied::NotFound => Close::NOT_FOUND,
        Denied::Forbidden => Close::FORBIDDEN,
        Denied::Unavailable(error) => {
            tracing::warn!(%error, "rights could not be looked up");
            Close::TRY_LATER
        }
    }
}
