//! Whatever is sent to the public listener instead of a handshake, over a real connection: an answer of HTTP or none, and
//! who arrives has asked as RFC 6455 wants it, from a page that may.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use community_gateway::http::{Arrival, Public, PublicSettings};
use community_gateway::identity::Sealer;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::telemetry::Metrics;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const ORIGIN: &str = "https://chat.example";

struct Door {
    runtime: Runtime,
    address: SocketAddr,
    arrivals: RefCell<UnboundedReceiver<Arrival>>,
}

thread_local! {
    static DOOR: LazyLock<Door> = LazyLock::new(open);
}

fn open() -> Door {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = PublicSettings {
        allowed_origins: vec![ORIGIN.to_owned()],
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        jwt_cookie: "access_token".to_owned(),
        connections: usize::MAX,
        connections_per_address: 0,
        handshake_rate: 0,
        handshakes_in_progress: 100,
        entering: 100,
        tickets: Arc::new(Sealer::new("the secret of this target")),
        certificate: None,
        head_deadline: Duration::from_secs(5),
        max_head: 8 * 1024,
    };
    let (arrived, arrivals) = unbounded_channel();
    let address = runtime.block_on(async {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let public = Public::bind(([127, 0, 0, 1], 0).into(), settings, metrics).expect("a port");
        let (address, lifecycle) = (public.local_addr(), Lifecycle::new());
        let inside = lifecycle.clone();
        lifecycle.spawn(public.run(inside, Arc::new(move |arrival| drop(arrived.send(arrival)))));
        address
    });
    Door { runtime, address, arrivals: RefCell::new(arrivals) }
}

fuzz_target!(|request: &[u8]| {
    DOOR.with(|door| door.runtime.block_on(ask(door, request)));
});

async fn ask(door: &Door, request: &[u8]) {
    let mut stream = TcpStream::connect(door.address).await.expect("the door is open");
    // A reset at the end: ports of a loopback interface would run out.
    stream.set_zero_linger().expect("a socket");
    let exchange = async {
        let mut answer = Vec::new();
        // Either may fail when the other side has had enough.
        let _ = (stream.write_all(request).await, stream.shutdown().await);
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::pin!(exchange);
    let mut arrivals = door.arrivals.borrow_mut();
    tokio::select! {
        biased;
        arrival = arrivals.recv() => {
            let arrival = arrival.expect("the door is open");
            let head = String::from_utf8_lossy(request).to_lowercase();
            assert!(head.trim_start().starts_with("get "));
            assert!(head.contains("sec-websocket-version") && head.contains("sec-websocket-key"));
            assert!(!head.contains("\norigin:") || head.contains(ORIGIN));
            assert!(request.ends_with(&arrival.early));
            drop(arrival);
            assert!(exchange.await.starts_with(b"HTTP/1.1 101 "));
        }
        answer = &mut exchange => {
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.") && !answer.starts_with(b"HTTP/1.1 101"));
        }
    }
}
