//! Which paths there are, and what stands in them and behind them.

use serde::de::DeserializeOwned;
use url::form_urlencoded;
use uuid::Uuid;

use super::answer::Problem;
use crate::domain::UserId;

/// The most entries of one page, and how many are shown if nothing is said.
pub(super) const PAGE: (usize, usize) = (200, 50);

/// The longest user id that the description allows.
const USER_DIGITS: usize = 18;
/// The largest number that every JSON reader takes.
const LARGEST: u64 = (1 << 53) - 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    OpenApi,
    Instances,
    Config,
    Sockets,
    Rooms,
    User(UserId),
    Room(Uuid),
    Disconnect(UserId),
    FollowUser(UserId),
    Kick(Uuid),
    FollowRoom(Uuid),
    Notices,
    Drain,
    Reload,
}

impl Route {
    /// Finds the route of a path.
    pub(super) fn find(path: &str) -> Result<Self, Problem> {
        let path = path.strip_prefix("/admin/").ok_or_else(Problem::not_found)?;
        Ok(match path.split('/').collect::<Vec<_>>()[..] {
            ["openapi.json"] => Self::OpenApi,
            ["instances"] => Self::Instances,
            ["config"] => Self::Config,
            ["sockets"] => Self::Sockets,
            ["rooms"] => Self::Rooms,
            ["notices"] => Self::Notices,
            ["drain"] => Self::Drain,
            ["reload"] => Self::Reload,
            ["users", id] => Self::User(user(id)?),
            ["users", id, "disconnect"] => Self::Disconnect(user(id)?),
            ["users", id, "log"] => Self::FollowUser(user(id)?),
            ["rooms", id] => Self::Room(room(id)?),
            ["rooms", id, "kick"] => Self::Kick(room(id)?),
            ["rooms", id, "log"] => Self::FollowRoom(room(id)?),
            _ => return Err(Problem::not_found()),
        })
    }

    /// The path with the ids left open, which is the metric's label.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::OpenApi => "/admin/openapi.json",
            Self::Instances => "/admin/instances",
            Self::Config => "/admin/config",
            Self::Sockets => "/admin/sockets",
            Self::Rooms => "/admin/rooms",
            Self::User(_) => "/admin/users/{user}",
            Self::Room(_) => "/admin/rooms/{room}",
            Self::Disconnect(_) => "/admin/users/{user}/disconnect",
            Self::FollowUser(_) => "/admin/users/{user}/log",
            Self::Kick(_) => "/admin/rooms/{room}/kick",
            Self::FollowRoom(_) => "/admin/rooms/{room}/log",
            Self::Notices => "/admin/notices",
            Self::Drain => "/admin/drain",
            Self::Reload => "/admin/reload",
        }
    }

    /// Whether it changes something; such a path takes POST, all others GET.
    pub(super) fn acts(self) -> bool {
        !matches!(
            self,
            Self::OpenApi
                | Self::Instances
                | Self::Config
                | Self::Sockets
                | Self::Rooms
                | Self::User(_)
                | Self::Room(_)
        )
    }

    /// The methods that the path takes.
    pub(super) fn allow(self) -> &'static str {
        if self.acts() { "POST" } else { "GET, HEAD" }
    }

    /// Whether it may be asked for without a token: it tells nothing of anybody.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::OpenApi)
    }
}

/// A user's id: decimal, without sign and leading zero.
pub(super) fn user(text: &str) -> Result<UserId, Problem> {
    let id = text.parse().ok().filter(|_| text.len() <= USER_DIGITS);
    id.ok_or_else(|| Problem::invalid("a user is a number of at most 18 digits"))
}

/// A room's id, or a direct conversation's: a hyphenated UUID.
pub(super) fn room(text: &str) -> Result<Uuid, Problem> {
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.ok_or_else(|| Problem::invalid("a room is a hyphenated UUID"))
}

/// The parameters of a query, each at most once, none that is not known.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) || pairs[..at].iter().any(|(before, _)| before == name) {
                return Err(Problem::invalid("a parameter is not known here, or comes twice"));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How many entries a page may have.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else { return Ok(PAGE.1) };
        let number = digits(text).filter(|number| (1..=PAGE.0 as u64).contains(number));
        number.map(|number| number as usize).ok_or_else(|| Problem::invalid("`limit` is a number from 1 to 200"))
    }

    /// After which socket a page begins.
    pub(super) fn after(&self) -> Result<u64, Problem> {
        let Some(text) = self.text("after") else { return Ok(0) };
        digits(text)
            .filter(|number| *number <= LARGEST)
            .ok_or_else(|| Problem::invalid("`after` is the number of a socket"))
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads a request's body.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde's words name fields and places, and may quote what was sent by its sender to its sender.
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One path of each route.
    const PATHS: &[&str] = &[
        "openapi.json",
        "instances",
        "config",
        "sockets",
        "rooms",
        "users/7",
        "rooms/3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "users/7/disconnect",
        "users/7/log",
        "rooms/3f2504e0-4f89-41d3-9a0c-0305e82c3301/kick",
        "rooms/3f2504e0-4f89-41d3-9a0c-0305e82c3301/log",
        "notices",
        "drain",
        "reload",
    ];

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let described: serde_json::Value = serde_json::from_str(super::super::OPENAPI).expect("is JSON");
        let described = described["paths"].as_object().expect("has paths");
        for path in PATHS {
            let route = Route::find(&format!("/admin/{path}")).expect("is a route");
            let methods = described.get(route.template()).expect(path).as_object().expect("has methods");
            let method = if route.acts() { "post" } else { "get" };
            assert!(methods.contains_key(method), "{path}");
        }
        assert_eq!(described.len(), PATHS.len());
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let code = |path: &str| Route::find(path).map_err(|problem| problem.code);
        assert_eq!(code("/admin/users/7"), Ok(Route::User(UserId(7))));
        for path in ["/admin", "/admin/", "/admin/users", "/admin/users/7/", "/admin/users/7/dance", "/adminx/users/7"]
        {
            assert_eq!(code(path), Err("not_found"), "{path}");
        }
        for path in [
            "/admin/users/ada",
            "/admin/users/-7",
            "/admin/rooms/7",
            "/admin/rooms/3f2504e04f8941d39a0c0305e82c3301/kick",
        ] {
            assert_eq!(code(path), Err("invalid_request"), "{path}");
        }
    }

    #[test]
    fn a_query_has_what_is_known_once() {
        let limit = |query: &str| Query::read(query, &["limit", "after"]).and_then(|query| query.limit());
        assert_eq!(limit(""), Ok(50));
        assert_eq!(limit("limit=200&after=7"), Ok(200));
        for wrong in ["limit=0", "limit=201", "limit=+7", "limit=", "limit=7&limit=7", "depth=7"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
