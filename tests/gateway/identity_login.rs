//! Login over a real Redis: single use, priority, sessions, activity, and what happens without the cache.

use std::time::{Duration, Instant};

use community_gateway::domain::{Micros, UserId};
use community_gateway::identity::cached;
use community_gateway::identity::pickle::Value;
use community_gateway::identity::token::{self, Format};
use community_gateway::identity::{
    CacheError, Credential, Credentials, DjangoCache, Identity, JwtError, Login, LoginError, Verifier,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::support::{RedisServer, eventually};

const SECRET: &str = "a secret that is only used here";
const NOW: Micros = Micros(1_790_000_000_250_000);
const ADA: UserId = UserId(42);
const GRACE: UserId = UserId(7);

async fn cache(server: &RedisServer) -> DjangoCache {
    DjangoCache::connect(&server.url(2), "allthrive", "1").await.unwrap()
}

async fn login(server: &RedisServer) -> Login {
    Login::new(cache(server).await, Verifier::new(SECRET))
}

/// A connection of Django's own to its cache.
async fn django(server: &RedisServer) -> MultiplexedConnection {
    redis::Client::open(server.url(2)).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn fresh_token(cache: &DjangoCache, user: UserId) -> String {
    let (token, value) = token::mint(user, "ada", NOW, Format::Django).unwrap();
    cache.put_token(&token, value, 60).await.unwrap();
    token
}

fn jwt(user: UserId, session_version: Option<i64>, expires_in: i64) -> String {
    let (issued, jti) = (NOW.seconds() - 60, "0123456789abcdef0123456789abcdef");
    let claims = json!({"token_type": "access", "exp": NOW.seconds() + expires_in, "iat": issued, "jti": jti,
        "user_id": user.to_string(), "session_version": session_version});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn by_token(token: &str) -> Credentials {
    Credentials { connection_token: Some(token.to_owned()), ..Credentials::default() }
}

fn by_cookie(jwt: String) -> Credentials {
    Credentials { cookie_jwt: Some(jwt), ..Credentials::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_who_show_one_token_at_once_one_gets_in() {
    let server = RedisServer::start().await;
    let (one, two) = (cache(&server).await, cache(&server).await);
    let token = fresh_token(&one, ADA).await;
    let takers = (0..20).map(|taker| {
        let cache = if taker % 2 == 0 { one.clone() } else { two.clone() };
        let token = token.clone();
        async move { cache.take_token(&token).await.unwrap() }
    });
    let taken: Vec<_> = futures_util::future::join_all(takers).await.into_iter().flatten().collect();
    assert_eq!(taken.len(), 1);
    assert!(one.take_token(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_minted_token_of_either_format_lets_its_user_in_once_and_expires_in_a_minute() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    let mut django = django(&server).await;
    let _: () = django.set("allthrive:1:session:version:42", 3).await.unwrap();
    for format in [Format::Django, Format::Json] {
        let (token, value) = token::mint(ADA, "ada", NOW, format).unwrap();
        assert_eq!(token.len(), 43);
        assert!(token::is_plausible(&token));
        login.cache().put_token(&token, value, 60).await.unwrap();
        let ttl: i64 = django.ttl(format!("allthrive:1:ws_conn_token:{token}")).await.unwrap();
        assert!((55..=60).contains(&ttl), "{ttl}");

        let identity = login.identify(by_token(&token), NOW).await.unwrap();
        assert_eq!(
            identity,
            Identity { user: ADA, credential: Credential::Token, session_version: Some(3), minted: Some(NOW) }
        );
        let again = login.identify(by_token(&token), NOW).await.unwrap_err();
        assert_eq!((again.reason(), again.is_unavailable()), ("unknown_or_used", false));
    }
}

#[tokio::test]
async fn a_token_that_is_no_good_is_used_up_all_the_same() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    let token = fresh_token(login.cache(), ADA).await;
    let mut django = django(&server).await;
    let key = format!("allthrive:1:ws_conn_token:{token}");
    let _: () = django.set(&key, r#"{"user_id":42,"username":"ada","created_at":1.5,"used":true}"#).await.unwrap();
    assert_eq!(login.identify(by_token(&token), NOW).await.unwrap_err().reason(), "unknown_or_used");
    assert!(!django.exists::<_, bool>(&key).await.unwrap());

    let _: () = django.set(&key, "not a token").await.unwrap();
    assert_eq!(login.identify(by_token(&token), NOW).await.unwrap_err().reason(), "malformed");
    assert!(!django.exists::<_, bool>(&key).await.unwrap());
}

#[tokio::test]
async fn the_first_credential_that_is_given_decides_alone() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    let good = |user| Some(jwt(user, None, 60));
    let bad = || Some("not.a.jwt".to_owned());
    let unknown_token = || Some("A".repeat(43));
    let all = |connection_token, cookie_jwt, query_jwt| Credentials {
        resume_token: None,
        connection_token,
        cookie_jwt,
        query_jwt,
    };

    let token = fresh_token(login.cache(), ADA).await;
    let found = login.identify(all(Some(token), bad(), bad()), NOW).await.unwrap();
    assert_eq!((found.user, found.credential), (ADA, Credential::Token));
    let refused = login.identify(all(unknown_token(), good(ADA), good(ADA)), NOW).await.unwrap_err();
    assert_eq!(refused.reason(), "unknown_or_used");

    let found = login.identify(all(None, good(ADA), good(GRACE)), NOW).await.unwrap();
    assert_eq!((found.user, found.credential), (ADA, Credential::Cookie));
    let refused = login.identify(all(None, bad(), good(GRACE)), NOW).await.unwrap_err();
    assert_eq!(refused.reason(), "malformed");

    let found = login.identify(all(Some(String::new()), Some(String::new()), good(GRACE)), NOW).await.unwrap();
    assert_eq!((found.user, found.credential), (GRACE, Credential::Query));
    assert_eq!(login.identify(Credentials::default(), NOW).await.unwrap_err().reason(), "missing");
}

#[tokio::test]
async fn a_session_lives_while_its_version_is_in_force_or_none_is_kept() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    let mut django = django(&server).await;
    let identify = |version| login.identify(by_cookie(jwt(ADA, version, 60)), NOW);

    assert_eq!(identify(Some(3)).await.unwrap().session_version, Some(3));
    let _: () = django.set("allthrive:1:session:version:42", 3).await.unwrap();
    assert_eq!(identify(Some(3)).await.unwrap().session_version, Some(3));
    let _: () = django.incr("allthrive:1:session:version:42", 1).await.unwrap();
    assert_eq!(identify(Some(3)).await.unwrap_err().reason(), "session_ended");
    assert_eq!(identify(Some(5)).await.unwrap_err().reason(), "session_ended");
    assert_eq!(
        identify(None).await.unwrap().session_version,
        Some(4),
        "what is in force says which logout is after it"
    );

    // Not a version: nobody can say whether the session is in force, so nobody is let in by it.
    let _: () = django.set("allthrive:1:session:version:42", "x").await.unwrap();
    assert!(identify(Some(3)).await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn an_expired_access_token_is_refused_and_says_so() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    assert!(login.identify(by_cookie(jwt(ADA, None, 1)), NOW).await.is_ok());
    let refused = login.identify(by_cookie(jwt(ADA, None, 0)), NOW).await.unwrap_err();
    assert!(matches!(refused, LoginError::Jwt(JwtError::Expired)));
    assert_eq!((refused.reason(), refused.is_unavailable()), ("expired", false));
}

#[tokio::test]
async fn activity_is_written_as_django_writes_it_and_not_again_within_five_minutes() {
    let server = RedisServer::start().await;
    let cache = cache(&server).await;
    let mut django = django(&server).await;
    cache.refresh_activity(ADA, NOW).await.unwrap();
    cache.refresh_activity(ADA, Micros(NOW.0 + 1_000_000)).await.unwrap();

    let activity: Vec<u8> = django.get("allthrive:1:session:activity:42").await.unwrap();
    assert_eq!(cached::read(&activity), Ok(Value::Str("2026-09-21T14:13:20.250000+00:00".into())));
    let debounce: Vec<u8> = django.get("allthrive:1:session:debounce:42").await.unwrap();
    assert_eq!(debounce, b"\x80\x02X\x01\x00\x00\x001.");
    let ttl: i64 = django.ttl("allthrive:1:session:activity:42").await.unwrap();
    assert!((86_300..=86_400).contains(&ttl), "{ttl}");
    let ttl: i64 = django.ttl("allthrive:1:session:debounce:42").await.unwrap();
    assert!((200..=300).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn without_the_cache_nobody_is_let_in_and_it_heals_by_itself() {
    let server = RedisServer::start().await;
    let login = login(&server).await;
    let token = fresh_token(login.cache(), ADA).await;

    server.pause().await;
    let asked = Instant::now();
    let refused = login.identify(by_token(&token), NOW).await.unwrap_err();
    assert!(matches!(refused, LoginError::Unavailable(CacheError::Command(_))), "{refused:?}");
    assert_eq!(refused.reason(), "unavailable");
    assert!(asked.elapsed() < Duration::from_secs(10), "it has a deadline");
    server.resume().await;

    server.kill().await;
    let refused = login.identify(by_cookie(jwt(ADA, Some(3), 60)), NOW).await.unwrap_err();
    assert!(refused.is_unavailable());
    // What cannot be a token is refused without asking.
    assert_eq!(login.identify(by_token("short"), NOW).await.unwrap_err().reason(), "unknown_or_used");
    let with_blanks = "a token of forty-three characters, not one.";
    assert_eq!(login.identify(by_token(with_blanks), NOW).await.unwrap_err().reason(), "unknown_or_used");

    server.restart().await;
    eventually("the cache answers again", || async { login.cache().ping().await.is_ok() }).await;
    let token = fresh_token(login.cache(), GRACE).await;
    assert_eq!(login.identify(by_token(&token), NOW).await.unwrap().user, GRACE);
}

#[tokio::test]
async fn connecting_fails_soon_when_nobody_answers() {
    let server = RedisServer::start().await;
    server.pause().await;
    let asked = Instant::now();
    let silent = DjangoCache::connect(&server.url(2), "allthrive", "1").await.unwrap_err();
    assert!(matches!(silent, CacheError::Connect(_) | CacheError::ConnectTimeout), "{silent:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "it has a deadline");
    server.resume().await;
    server.kill().await;
    let refused = DjangoCache::connect(&server.url(2), "allthrive", "1").await.unwrap_err();
    assert!(matches!(refused, CacheError::Connect(_)), "{refused:?}");
    let wrong = DjangoCache::connect("127.0.0.1", "allthrive", "1").await.unwrap_err();
    assert!(matches!(wrong, CacheError::Url(_)), "{wrong:?}");
}

#[tokio::test]
async fn a_closed_cache_answers_no_more() {
    let server = RedisServer::start().await;
    let cache = cache(&server).await;
    cache.ping().await.unwrap();
    cache.close().await;
    assert!(cache.ping().await.is_err());
}

#[test]
fn credentials_are_never_printed() {
    let credentials = Credentials {
        resume_token: Some("secret-zero".to_owned()),
        connection_token: Some("secret-one".to_owned()),
        cookie_jwt: Some("secret-two".to_owned()),
        query_jwt: Some("secret-three".to_owned()),
    };
    let printed = format!("{credentials:?} {:?}", Verifier::new("secret-four"));
    assert!(!printed.contains("secret"), "{printed}");
}
