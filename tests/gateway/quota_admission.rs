//! Who may open another socket, across instances.

use std::sync::Arc;
use std::time::Duration;

use community_gateway::access::admission::{Admission, AdmissionError, Admitted, Limits, Reason};
use community_gateway::bus::Bus;
use community_gateway::domain::{ConnectionId, UserId};
use community_gateway::keyspace;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::telemetry::Metrics;
use futures_util::future::join_all;

use crate::support::{GUARD, RedisServer, eventually};

/// So long that it does not end while a test runs.
const LEASE: Duration = Duration::from_secs(60);

const ADA: UserId = UserId(1);

struct Instance {
    admission: Admission,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
}

impl Instance {
    async fn start(server: &RedisServer, connections: u32, connects: u32, lease: Duration) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let bus = Bus::connect(&server.deployment(3), Arc::clone(&metrics)).await.unwrap();
        let limits = Limits { connections, connects, lease, grace: Duration::ZERO };
        let announcement = |_, _| b"not looked into".to_vec();
        let admission = Admission::new(bus.connection(), limits, Arc::clone(&metrics), announcement);
        let lifecycle = Lifecycle::new();
        admission.start(&lifecycle);
        Self { admission, lifecycle, metrics }
    }

    async fn admit(&self, user: UserId) -> Result<Admitted, AdmissionError> {
        self.admission.admit(user, ConnectionId::next(), None).await
    }

    /// Tries until there is room.
    async fn admit_at_last(&self, what: &str) -> Admitted {
        let socket = std::cell::Cell::new(None);
        eventually(what, || async { self.admit(ADA).await.map(|admitted| socket.set(Some(admitted))).is_ok() }).await;
        socket.into_inner().unwrap()
    }

    async fn resume(&self, user: UserId) -> Result<Admitted, AdmissionError> {
        self.return_from(user, ConnectionId::next()).await
    }

    /// Comes back in place of another socket.
    async fn return_from(&self, user: UserId, former: ConnectionId) -> Result<Admitted, AdmissionError> {
        self.admission.admit(user, ConnectionId::next(), Some(former)).await
    }
}

async fn number<T: redis::FromRedisValue>(server: &RedisServer, command: &str, args: &[&str]) -> T {
    let mut redis = redis::Client::open(server.url(3)).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command).arg(args).query_async(&mut redis).await.unwrap()
}

fn refused(answer: Result<Admitted, AdmissionError>) -> (Reason, Duration) {
    match answer {
        Err(AdmissionError::Refused { reason, retry_after }) => (reason, retry_after),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn of_fifty_sockets_at_once_on_two_instances_five_are_admitted() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 5, 0, LEASE).await;
    let two = Instance::start(&server, 5, 0, LEASE).await;
    let answers = join_all((0..25).flat_map(|_| [one.admit(ADA), two.admit(ADA)])).await;
    let (mut admitted, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(admitted.len(), 5);
    for answer in others {
        let (reason, wait) = refused(answer);
        assert_eq!((reason, wait), (Reason::Connections, Duration::from_secs(5)));
    }
    let counted = |instance: &Instance| instance.metrics.limited_total.with_label_values(&["connections"]).get();
    assert_eq!(counted(&one) + counted(&two), 45);
    assert!(two.admit(UserId(2)).await.is_ok(), "others are not concerned");

    admitted.pop();
    admitted.push(Ok(two.admit_at_last("a closed socket makes room").await));
    assert_eq!(refused(one.admit(ADA).await).0, Reason::Connections);

    drop(admitted);
    let key = keyspace::sockets(ADA);
    eventually("nothing is left", || async { number::<u64>(&server, "EXISTS", &[&key]).await == 0 }).await;
    for instance in [one, two] {
        instance.lifecycle.begin_shutdown();
        assert_eq!(instance.lifecycle.wait(GUARD).await, 0, "the task ends when all is given back");
    }
}

#[tokio::test]
async fn ten_new_sockets_a_minute_and_resumed_ones_do_not_count() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 0, 10, LEASE).await;
    let two = Instance::start(&server, 0, 10, LEASE).await;
    for _ in 0..20 {
        assert!(one.resume(ADA).await.is_ok());
    }
    for _ in 0..5 {
        assert!(one.admit(ADA).await.is_ok() && two.admit(ADA).await.is_ok());
    }
    for instance in [&one, &two] {
        let (reason, wait) = refused(instance.admit(ADA).await);
        assert_eq!(reason, Reason::Connects);
        assert!(Duration::from_secs(30) < wait && wait <= Duration::from_secs(60), "{wait:?}");
    }
    assert!(two.resume(ADA).await.is_ok());
    let key = keyspace::connect_window(ADA);
    assert_eq!(number::<u64>(&server, "ZCARD", &[&key]).await, 10, "what was refused is not recorded");
    assert!(number::<u64>(&server, "PTTL", &[&key]).await <= 60_001);
}

#[tokio::test]
async fn sockets_of_a_killed_instance_count_until_their_leases_end_and_renewed_ones_go_on() {
    const SHORT: Duration = Duration::from_secs(3);
    let server = RedisServer::start().await;
    let dead = Instance::start(&server, 2, 0, SHORT).await;
    let alive = Instance::start(&server, 2, 0, SHORT).await;
    let (_lost, _here) = (dead.admit(ADA).await.unwrap(), alive.admit(ADA).await.unwrap());
    let (_, wait) = refused(alive.admit(ADA).await);
    assert!(wait <= SHORT, "{wait:?}");
    dead.lifecycle.abort();

    let _after = alive.admit_at_last("the dead one's lease ends").await;
    assert_eq!(refused(alive.admit(ADA).await).0, Reason::Connections, "the living one's was renewed");
}

#[tokio::test]
async fn after_a_flush_open_sockets_are_counted_again() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 2, 0, Duration::from_secs(3)).await;
    let _sockets = (one.admit(ADA).await.unwrap(), one.admit(ADA).await.unwrap());
    number::<()>(&server, "FLUSHALL", &[]).await;
    let key = keyspace::sockets(ADA);
    eventually("both are back", || async { number::<u64>(&server, "ZCARD", &[&key]).await == 2 }).await;
    assert_eq!(refused(one.admit(ADA).await).0, Reason::Connections);
}

#[tokio::test]
async fn many_are_renewed_by_one_script() {
    const PEOPLE: u64 = 40;
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 0, 0, Duration::from_secs(3)).await;
    // Of one part of the books.
    let users: Vec<_> = (0..PEOPLE as i64).map(|number| UserId(1 + 32 * number)).collect();
    let _sockets = join_all(users.iter().flat_map(|user| [one.admit(*user), one.admit(*user)])).await;
    number::<()>(&server, "CONFIG", &["RESETSTAT"]).await;
    number::<()>(&server, "FLUSHALL", &[]).await;
    for user in users {
        let key = keyspace::sockets(user);
        eventually("both are back", || async { number::<u64>(&server, "ZCARD", &[&key]).await == 2 }).await;
    }
    let calls: String = number(&server, "INFO", &["commandstats"]).await;
    let of = |command: &str| -> u64 {
        let line = calls.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))).unwrap();
        line.split(',').next().unwrap().parse().unwrap()
    };
    // Each time it runs, the script asks for the time once.
    assert_eq!(of("pexpire"), PEOPLE * of("time"), "{calls}");
}

#[tokio::test]
async fn without_redis_nobody_is_admitted_unless_the_limits_are_off() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1, 0, LEASE).await;
    let off = Instance::start(&server, 0, 0, LEASE).await;
    server.kill().await;
    let answer = one.admit(ADA).await;
    assert!(matches!(answer, Err(AdmissionError::Late | AdmissionError::Redis(_))), "{answer:?}");
    assert!(off.admit(ADA).await.is_ok());
    assert_eq!(one.metrics.redis_failures_total.with_label_values(&["admission"]).get(), 1);

    server.restart().await;
    let _socket = one.admit_at_last("a socket is admitted").await;
    assert_eq!(refused(one.admit(ADA).await).0, Reason::Connections, "those that failed hold no place");
}

#[tokio::test]
async fn an_admission_given_up_midway_gives_its_place_back() {
    let server = RedisServer::start().await;
    let one = Instance::start(&server, 1, 0, LEASE).await;
    for microseconds in (0..2_000).step_by(20) {
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), one.admit(ADA)).await;
    }
    let _socket = one.admit_at_last("the place is free").await;
}
