//! The private listener. The client blocks on purpose: the routes answer without the runtime of the gateway.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use community_gateway::http::{Ops, OpsThread};
use community_gateway::lifecycle::Lifecycle;
use community_gateway::telemetry::{Health, Metrics};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::GUARD;

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    lifecycle: Lifecycle,
    _thread: OpsThread,
}

impl Running {
    fn start() -> Self {
        Self::with(|ops| ops)
    }

    fn with(change: impl FnOnce(Ops) -> Ops) -> Self {
        let (metrics, health) = (Arc::new(Metrics::new().unwrap()), Arc::new(Health::default()));
        let ops = Ops::bind(([127, 0, 0, 1], 0).into(), Arc::clone(&metrics), Arc::clone(&health)).unwrap();
        let (address, lifecycle) = (ops.local_addr(), Lifecycle::new());
        Self { address, metrics, health, _thread: change(ops).run(lifecycle.clone()).unwrap(), lifecycle }
    }

    /// Status and head in lower case, and the body.
    fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, head, body) = self.ask(&format!("GET {path}"));
        assert!(!head.contains("\nserver:"), "{head}");
        (status, body)
    }

    fn ready(&self) -> (u16, Value) {
        let (status, body) = self.get("/readyz");
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[test]
fn the_process_lives() {
    assert_eq!(Running::start().get("/livez"), (200, "ok".to_owned()));
}

#[test]
fn it_is_ready_when_nothing_is_wrong_and_says_what_is() {
    let ops = Running::start();
    assert_eq!(ops.ready(), (200, json!({"ready": true})));

    ops.health.fault("postgres", "cannot connect: \"refused\"");
    ops.health.fault("fan_out", "nothing comes back");
    let faults = json!([
        {"part": "fan_out", "why": "nothing comes back"},
        {"part": "postgres", "why": "cannot connect: \"refused\""},
    ]);
    assert_eq!(ops.ready(), (503, faults));

    ops.health.clear("postgres");
    ops.health.clear("fan_out");
    assert_eq!(ops.ready(), (200, json!({"ready": true})));
}

#[test]
fn it_answers_during_the_drain_and_is_not_ready() {
    let ops = Running::start();
    ops.lifecycle.begin_shutdown();
    let (status, faults) = ops.ready();
    assert_eq!((status, &faults[0]["part"]), (503, &json!("draining")));
    assert_eq!(ops.get("/livez").0, 200);
    ops.lifecycle.abort();
    assert_eq!(ops.get("/livez").0, 200);
}

#[test]
fn it_tells_what_it_counts() {
    let ops = Running::start();
    ops.metrics.upgrades_total.inc_by(7);
    let (status, head, body) = ops.ask("GET /metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\ncommunity_gateway_upgrades_total 7\n"), "{body}");
}

#[test]
fn the_root_names_the_routes_and_anything_else_is_not_found() {
    let ops = Running::start();
    let (status, index) = ops.get("/");
    assert_eq!((status, index.lines().count()), (200, 1));
    for path in ["/livez/", "/admin", "/ws/community/room/0f8fad5b-d9cb-469f-a165-70867728950e/"] {
        let (status, body) = ops.get(path);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
}

#[test]
fn only_reading_is_allowed() {
    let ops = Running::start();
    let (status, _, body) = ops.ask("HEAD /livez");
    assert_eq!((status, body.as_str()), (200, ""));
    let (status, head, body) = ops.ask("DELETE /livez");
    assert_eq!(status, 405);
    assert!(head.contains("allow: get, head"), "{head}");
    assert!(body.contains("method_not_allowed"), "{body}");
}

#[test]
fn silent_clients_do_not_keep_others_out_and_the_end_does_not_wait_for_them() {
    let ops = Running::start();
    let _silent: Vec<_> = (0..12).map(|_| TcpStream::connect(ops.address).unwrap()).collect();
    assert_eq!(ops.get("/livez").0, 200);

    let address = ops.address;
    drop(ops);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn who_says_nothing_is_gone_before_a_probe_gives_up() {
    let ops = Running::start();
    let _silent: Vec<_> = (0..64).map(|_| TcpStream::connect(ops.address).unwrap()).collect();
    // They have all places twice. If each kept one as long as a whole request may take, this would not be answered in time.
    assert_eq!(ops.get("/livez").0, 200);
}

#[test]
fn operators_questions_leave_places_for_probes() {
    let (desk, _asked) = mpsc::channel(64);
    let ops = Running::with(|ops| ops.with_desk(desk));
    let ask = || {
        let mut stream = TcpStream::connect(ops.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(b"GET /admin/instances HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..40).map(|_| ask()).collect();
    // Nobody answers them. Who is one too many hears so, and does not keep a place meanwhile.
    let mut answer = String::new();
    waiting[39].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Too much is asked at once"), "{answer}");
    assert_eq!(ops.get("/livez").0, 200);
    waiting[0].set_nonblocking(true).unwrap();
    assert_eq!(waiting[0].read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "the first still waits");
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let ops = Running::start();
    let (metrics, health) = (Arc::clone(&ops.metrics), Arc::clone(&ops.health));
    let taken = Ops::bind(ops.address, metrics, health).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}
