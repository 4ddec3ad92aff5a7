//! `token`: mints connection tokens into Django's cache, for tests and load tests.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Exit, out, said};
use crate::config::{Cache, Database, environment};
use crate::domain::{Micros, UserId};
use crate::identity::DjangoCache;
use crate::identity::token::{Format, mint};
use crate::keyspace;
use crate::store::{Settings, Store};
use crate::telemetry::Metrics;

/// Tokens on their way to the cache at once; the client sends them in one go.
const IN_FLIGHT: usize = 512;

/// Users asked for in one query.
const CHUNK: usize = 5_000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints one token a line. The username is read from Postgres (DATABASE_URL), unless --username \
                        gives it; SECRET_KEY is not needed."
)]
#[command(group(clap::ArgGroup::new("who").required(true)))]
pub(super) struct Arguments {
    /// Mint for this user
    #[arg(long, value_name = "ID", group = "who")]
    user: Option<UserId>,
    /// Mint for each of these users, both ends included
    #[arg(long, value_name = "A-B", group = "who", value_parser = range)]
    users: Option<Range>,
    /// The user's name, when Postgres is not to be asked
    #[arg(long, requires = "user")]
    username: Option<String>,
    /// Tokens for each user
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How the cache keeps them: pickled, as Django does, or as JSON
    #[arg(long, value_enum, default_value = "django")]
    format: Kept,
    /// Seconds until a token that nobody used is gone
    #[arg(long, value_name = "SECONDS", default_value_t = keyspace::CONNECTION_TOKEN_SECONDS, value_parser = clap::value_parser!(i64).range(1..=86_400))]
    ttl: i64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kept {
    Django,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: i64,
    last: i64,
}

fn range(text: &str) -> Result<Range, String> {
    let ends = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match ends {
        Some((UserId(first), UserId(last))) if first <= last => Ok(Range { first, last }),
        _ => Err("two user ids are expected, the smaller first, as in 1-1000".to_owned()),
    }
}

pub(super) async fn run(arguments: Arguments) -> Exit {
    let minted = match mint_all(&arguments).await {
        Ok(minted) => minted,
        Err(exit) => return exit,
    };
    super::printed(out::lines(minted))
}

async fn mint_all(arguments: &Arguments) -> Result<Vec<String>, Exit> {
    let environment = environment();
    let cache = Cache::alone(&environment).map_err(|wrong| said(&wrong))?;
    let users = match (&arguments.username, arguments.user, arguments.users) {
        (Some(username), Some(user), _) => vec![(user, username.clone())],
        (None, Some(UserId(user)), _) => named(&environment, Range { first: user, last: user }).await?,
        (_, _, Some(range)) => named(&environment, range).await?,
        // The command line has one or the other.
        (_, None, None) => Vec::new(),
    };
    let cache = DjangoCache::connect(cache.url.expose(), &cache.prefix, &cache.version).await.map_err(unavailable)?;
    let format = match arguments.format {
        Kept::Django => Format::Django,
        Kept::Json => Format::Json,
    };
    let put = |(user, username): (UserId, Arc<str>)| {
        let cache = &cache;
        async move {
            let (token, value) = mint(user, &username, Micros::now(), format).map_err(fault)?;
            cache.put_token(&token, value, arguments.ttl).await.map_err(unavailable)?;
            Ok(token)
        }
    };
    let wanted = users.into_iter().flat_map(|(user, username)| {
        let username: Arc<str> = username.into();
        (0..arguments.count).map(move |_| (user, Arc::clone(&username)))
    });
    let minted = stream::iter(wanted).map(put).buffered(IN_FLIGHT).try_collect().await;
    cache.close().await;
    minted
}

/// Reads usernames from Postgres. A user that does not exist is an error.
async fn named(
    environment: &std::collections::BTreeMap<String, String>,
    range: Range,
) -> Result<Vec<(UserId, String)>, Exit> {
    let database = Database::alone(environment).map_err(|wrong| {
        out::say("for a user whose name need not be looked up, give --username");
        said(&wrong)
    })?;
    let settings = Settings {
        pool: 2,
        pgbouncer: database.pgbouncer,
        user_table: database.user_table.clone(),
        ..Settings::new(database.url.expose())
    };
    let metrics = Metrics::new().map_err(fault)?;
    let store = Store::connect(settings, Arc::new(metrics)).await.map_err(unavailable)?;
    let ids: Vec<UserId> = (range.first..=range.last).map(UserId).collect();
    let mut names = HashMap::new();
    for chunk in ids.chunks(CHUNK) {
        let people = store.people(chunk).await.map_err(unavailable)?;
        names.extend(people.into_iter().map(|person| (person.id, person.username)));
    }
    store.close().await;
    let missing = ids.iter().filter(|id| !names.contains_key(id)).count();
    if missing > 0 {
        let (Range { first, last }, table) = (range, &database.user_table);
        out::say(format_args!("error: {missing} of the users {first} to {last} are not in {table}"));
        return Err(Exit::Configuration);
    }
    Ok(ids.into_iter().filter_map(|id| Some((id, names.remove(&id)?.to_string()))).collect())
}

fn unavailable(error: impl std::fmt::Display) -> Exit {
    out::say(format_args!("error: {error}"));
    Exit::Unavailable
}

fn fault(error: impl std::fmt::Display) -> Exit {
    out::say(format_args!("error: {error}"));
    Exit::Fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!(range("1-1000"), Ok(Range { first: 1, last: 1000 }));
        assert_eq!(range("7-7"), Ok(Range { first: 7, last: 7 }));
        for text in ["", "5", "2-1", "a-b", "1-", "-1", "1-2-3"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
