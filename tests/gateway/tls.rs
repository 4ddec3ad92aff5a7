//! TLS in the gateway: sockets over it, certificates that change, and those who get the handshake wrong.

use std::net::SocketAddr;
use std::time::Duration;

use community_gateway::config::Secret;
use community_gateway::transport::Certificate;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::http_raw::{Door, ROOM, read_exact, settings, upgrade};
use crate::support::{
    ADMIN_TOKEN, GUARD, GatewayBuilder, RoomSpec, Stack, TestCertificate, TestGateway, TestRoom, TestUser, eventually,
};

const HANDSHAKES: &str = "community_gateway_tls_handshakes_total";

/// A certificate in files, as operators have it.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn of(certificate: &TestCertificate) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.write("tls.crt", &certificate.chain);
        files.write("tls.key", &certificate.key);
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn gateway(&self, stack: &Stack) -> GatewayBuilder {
        stack
            .gateway()
            .env("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("GATEWAY_TLS_CERT_FILE", self.path("tls.crt"))
            .env("GATEWAY_TLS_KEY_FILE", self.path("tls.key"))
    }
}

async fn reload(gateway: &TestGateway) -> Value {
    let (status, answer) = gateway.admin("POST", "reload", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    answer["instances"].as_object().unwrap().values().next().unwrap().clone()
}

/// Whether a client that trusts this certificate only gets through the handshake.
async fn shows(address: SocketAddr, certificate: &TestCertificate) -> bool {
    shake(address, &certificate.client()).await.is_ok()
}

async fn shake(address: SocketAddr, client: &tokio_rustls::TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    timeout(GUARD, client.connect("chat.test".try_into().unwrap(), stream)).await.expect("an end")
}

async fn room(stack: &Stack) -> (TestRoom, TestUser, TestUser) {
    (stack.room(RoomSpec::default()).await, stack.user("ada").await, stack.user("grace").await)
}

#[tokio::test]
async fn messages_go_both_ways_over_both_versions_of_tls() {
    let (stack, certificate) = (Stack::start().await, TestCertificate::new());
    let gateway = Files::of(&certificate).gateway(&stack).start().await;
    let (room, ada, grace) = room(&stack).await;
    let dial = |user: &TestUser| gateway.dial(&room.path()).jwt(&stack.jwt(user));
    let mut new = dial(&ada).tls(certificate.client_of(&[&TLS13], &[b"h2", b"http/1.1"])).connect().await;
    new.wait_for("room_state").await;
    let mut old = dial(&grace).tls(certificate.client_of(&[&TLS12], &[])).connect().await;
    old.wait_for("room_state").await;
    let long: String = (0..400).map(|number| format!("{number}ä ")).chain(["end".to_owned()]).collect();
    new.send(json!({"type": "send_message", "content": long})).await;
    assert_eq!(old.wait_for("new_message").await["message"]["content"], long);
    old.send(json!({"type": "send_message", "content": "and back"})).await;
    new.wait_until("the answer", |event| event["message"]["content"] == "and back").await;
    assert_eq!(gateway.metric(HANDSHAKES, &[("outcome", "ok")]).await, 2.0);
    let ends = gateway.metric("community_gateway_tls_certificate_not_after_seconds", &[]).await;
    assert_eq!(ends as u64, certificate.ends);

    gateway.begin_termination();
    assert_eq!(new.expect_close().await.0, 1001);
    assert_eq!(old.expect_close().await.0, 1001);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_and_changes_nothing_for_who_is_there() {
    let (stack, first, second) = (Stack::start().await, TestCertificate::new(), TestCertificate::ending_in(30));
    let files = Files::of(&first);
    let gateway = files.gateway(&stack).start().await;
    let (room, ada, grace) = room(&stack).await;
    let mut open = gateway.dial(&room.path()).jwt(&stack.jwt(&ada)).tls(first.client()).connect().await;
    open.wait_for("room_state").await;

    // Half of the change is there: the certificate and the key do not belong together.
    files.write("tls.crt", &second.chain);
    let wrong = reload(&gateway).await;
    assert_eq!((&wrong["outcome"], &wrong["version"]), (&json!("wrong"), &json!(1)), "{wrong}");
    assert!(wrong["errors"][0].as_str().unwrap().starts_with("GATEWAY_TLS_KEY: the key is not that of"), "{wrong}");
    assert!(shows(gateway.public, &first).await);

    files.write("tls.key", &second.key);
    let right = reload(&gateway).await;
    assert_eq!(right["changed"], json!(["GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"]), "{right}");
    assert!(shows(gateway.public, &second).await && !shows(gateway.public, &first).await);
    let ends = gateway.metric("community_gateway_tls_certificate_not_after_seconds", &[]).await;
    assert_eq!(ends as u64, second.ends);
    let mut new = gateway.dial(&room.path()).jwt(&stack.jwt(&grace)).tls(second.client()).connect().await;
    new.wait_for("room_state").await;
    new.send(json!({"type": "send_message", "content": "from the new one"})).await;
    assert_eq!(open.wait_for("new_message").await["message"]["content"], "from the new one");

    // To turn TLS off is another matter.
    files.write("tls.crt", "");
    assert_eq!(reload(&gateway).await["outcome"], "wrong");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let (stack, certificate, other) = (Stack::start().await, TestCertificate::new(), TestCertificate::new());
    let cut: String = certificate.chain.lines().take(4).collect::<Vec<_>>().join("\n");
    let wrong = [
        (certificate.chain.as_str(), other.key.as_str(), "GATEWAY_TLS_KEY: the key is not that of"),
        (&cut, &certificate.key, "GATEWAY_TLS_CERT: there is no certificate"),
        ("nothing", &certificate.key, "GATEWAY_TLS_CERT: there is no certificate"),
        (&certificate.chain, &certificate.chain, "GATEWAY_TLS_KEY: there is no private key"),
    ];
    for (chain, key, expected) in wrong {
        let files = Files::of(&certificate);
        files.write("tls.crt", chain);
        files.write("tls.key", key);
        let (code, lines) = files.gateway(&stack).run(&["serve"]).await;
        assert!(code == 64 && lines.iter().any(|line| line.contains(expected)), "{expected}: {code} {lines:?}");
        let (code, lines) = files.gateway(&stack).run(&["check"]).await;
        assert!(code == 1 && lines.iter().any(|line| line.contains(expected)), "{expected}: {code} {lines:?}");
        assert!(!lines.join("\n").contains("PRIVATE KEY-----"));
    }
    let (code, lines) = stack.gateway().env("GATEWAY_TLS_KEY", "a key").run(&["check"]).await;
    assert!(code == 64 && lines[0].contains("GATEWAY_TLS_CERT: is not set"), "{lines:?}");
}

#[tokio::test]
async fn the_doctor_says_when_a_certificate_ends() {
    let stack = Stack::start().await;
    for (days, code, expected) in [
        (200, 0, "ok    tls: the certificate is valid until"),
        (5, 0, "hint  tls: the certificate ends in "),
        (-2, 1, "WRONG tls: the certificate has expired"),
    ] {
        let (got, lines) = Files::of(&TestCertificate::ending_in(days)).gateway(&stack).run(&["check"]).await;
        assert!(got == code && lines.iter().any(|line| line.starts_with(expected)), "{got} {lines:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_served_with_a_warning() {
    let (stack, expired) = (Stack::start().await, TestCertificate::ending_in(-2));
    let gateway = Files::of(&expired).gateway(&stack).start().await;
    gateway.wait_for_log("the certificate of GATEWAY_TLS_CERT has expired: clients refuse it").await;
    assert!(!shows(gateway.public, &expired).await, "this client looks at the date");
    let refused = || async { gateway.metric(HANDSHAKES, &[("outcome", "refused_by_client")]).await == 1.0 };
    eventually("the client's alert is counted", refused).await;
}

#[tokio::test]
async fn the_public_listener_can_be_probed() {
    let (stack, first, second) = (Stack::start().await, TestCertificate::new(), TestCertificate::new());
    let files = Files::of(&first);
    let gateway = files.gateway(&stack).start().await;
    let probe = || files.gateway(&stack).env("GATEWAY_LISTEN", gateway.public).run(&["probe", "--public"]);
    assert_eq!(probe().await.0, 0);
    files.write("tls.crt", &second.chain);
    files.write("tls.key", &second.key);
    let (code, lines) = probe().await;
    assert!(code == 1 && lines.join("\n").contains("does not show the certificate"), "{lines:?}");
    let plain = stack.gateway().start().await;
    assert_eq!(stack.gateway().env("GATEWAY_LISTEN", plain.public).run(&["probe", "--public"]).await.0, 0);
    let (code, lines) = stack.gateway().env("GATEWAY_LISTEN", gateway.public).run(&["probe", "--public"]).await;
    assert!(code == 1 && lines.join("\n").contains("tls_required"), "{lines:?}");
}

/// A listener alone, with a certificate.
fn door(certificate: &TestCertificate, deadline: Duration) -> Door {
    let certificate = Certificate::from_pem(&certificate.chain, &Secret::new(&*certificate.key)).unwrap();
    let mut settings = settings();
    (settings.certificate, settings.head_deadline) = (Some(certificate), deadline);
    Door::open(settings)
}

fn handshakes(door: &Door, outcome: &str) -> u64 {
    door.metrics.tls_handshakes_total.with_label_values(&[outcome]).get()
}

#[tokio::test]
async fn what_comes_with_the_request_is_the_first_input() {
    let certificate = TestCertificate::new();
    let mut door = door(&certificate, GUARD);
    let mut client = shake(door.address, &certificate.client()).await.unwrap();
    // More than HTTP reads at once, in the same record and in further ones.
    let early: Vec<u8> = (0..40_000_u32).map(|index| index.to_le_bytes()[index as usize % 2]).collect();
    client.write_all(&[upgrade(ROOM, "").as_bytes(), &early].concat()).await.unwrap();
    client.flush().await.unwrap();
    let arrival = timeout(GUARD, door.arrivals.recv()).await.unwrap().unwrap();
    let mut got = arrival.early.to_vec();
    got.resize(early.len(), 0);
    timeout(GUARD, read_exact(&arrival.stream, &mut got[arrival.early.len()..])).await.expect("the rest");
    assert!(got == early);
}

#[tokio::test]
async fn who_dawdles_in_the_handshake_is_left() {
    let certificate = TestCertificate::new();
    let door = door(&certificate, Duration::from_millis(300));
    let (mut silent, mut begun) = (door.connect().await, door.connect().await);
    begun.write(&[22, 3, 1, 2, 0, 1]).await;
    let mut shaken = shake(door.address, &certificate.client()).await.unwrap();
    assert!(silent.rest().await.is_empty() && begun.rest().await.is_empty());
    assert_eq!(handshakes(&door, "timeout"), 2);
    let mut rest = Vec::new();
    let _ = timeout(GUARD, shaken.read_to_end(&mut rest)).await.expect("the deadline is one for both");
    assert!(rest.is_empty());
    eventually("all are gone", || async { door.metrics.handshakes_open.get() == 0 }).await;
    assert_eq!(door.refused("timeout"), 1);
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let door = door(&TestCertificate::new(), GUARD);
    let answer = door.refusal(&upgrade(ROOM, "")).await;
    assert_eq!((answer.status(), answer.code().as_str()), (400, "tls_required"));
    assert_eq!((handshakes(&door, "plain_http"), door.refused("tls_required")), (1, 1));
}

#[tokio::test]
async fn each_failure_has_its_reason_and_harms_nobody() {
    let (certificate, other) = (TestCertificate::new(), TestCertificate::new());
    let mut door = door(&certificate, GUARD);
    let mut garbled = door.connect().await;
    garbled.write(&[22, 3, 1, 0, 6, 1, 0, 0, 2, 9, 9]).await;
    let mut alert = Vec::new();
    timeout(GUARD, garbled.0.read_to_end(&mut alert)).await.unwrap().unwrap();
    assert_eq!(alert.first(), Some(&21), "it is told why");
    assert!(shake(door.address, &certificate.client_of(&[&TLS13], &[b"h2"])).await.is_err());
    assert!(!shows(door.address, &other).await);
    let mut gone = door.connect().await;
    gone.write(&[22, 3, 1]).await;
    drop(gone);
    drop(door.connect().await);
    for outcome in ["malformed", "incompatible", "refused_by_client", "abandoned"] {
        eventually(outcome, || async { handshakes(&door, outcome) == 1 }).await;
    }
    eventually("all are gone", || async { door.metrics.handshakes_open.get() == 0 }).await;

    let mut client = shake(door.address, &certificate.client()).await.unwrap();
    client.write_all(upgrade(ROOM, "").as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    assert!(timeout(GUARD, door.arrivals.recv()).await.unwrap().is_some());
}
