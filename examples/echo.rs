//! An echo server on the gateway's own WebSocket, for conformance suites and measurements.
//!
//! `cargo run --example echo -- --port 9001`, then see `tests/autobahn/README.md`. Takes binary messages and large
//! ones, which the gateway does not.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::socket::{Class, Frame, Heartbeat, Incoming, Limits, Outbox, Shared, Socket};
use community_gateway::telemetry::Metrics;
use community_gateway::wire::Close;
use fastwebsockets::upgrade;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming as Body};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

/// Echoes text and binary messages until SIGTERM or SIGINT.
#[derive(Parser)]
struct Flags {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// Largest message in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    max_message: usize,
    /// Bytes that may wait for one client.
    #[arg(long, default_value_t = 64 << 20)]
    outbox_bytes: usize,
}

#[derive(Clone)]
struct Echo {
    lifecycle: Lifecycle,
    shared: Arc<Shared>,
    heartbeat: Arc<Heartbeat>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let limits = Limits {
        max_message: flags.max_message,
        outbox_bytes: flags.outbox_bytes,
        accept_binary: true,
        ..Limits::default()
    };
    let shared = Shared::new(limits, Arc::new(Metrics::new()?));
    let heartbeat = Arc::new(Heartbeat::new(&shared, Instant::now()));
    let echo = Echo { lifecycle: Lifecycle::new(), shared, heartbeat };
    echo.lifecycle.listen_for_signals()?;
    let beating = echo.clone();
    echo.lifecycle.spawn(async move { beating.heartbeat.run(beating.lifecycle.stopping()).await });

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, flags.port)).await?;
    loop {
        tokio::select! {
            () = echo.lifecycle.leaving() => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                echo.lifecycle.spawn(serve(stream, echo.clone()));
            }
        }
    }
    echo.lifecycle.abort();
    echo.lifecycle.wait(Duration::from_secs(5)).await;
    Ok(())
}

async fn serve(stream: TcpStream, echo: Echo) {
    let service = service_fn(|request| answer(request, echo.clone()));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).with_upgrades();
    let _ = connection.await; // a client that breaks off its request is of no interest here
}

async fn answer(mut request: Request<Body>, echo: Echo) -> Result<Response<Empty<Bytes>>, Infallible> {
    // Taken before fastwebsockets takes it: its own future would build a reader that is not used here.
    let upgraded = hyper::upgrade::on(&mut request);
    match upgrade::upgrade(&mut request) {
        Ok((response, _)) if upgrade::is_upgrade_request(&request) => {
            let lifecycle = echo.lifecycle.clone();
            lifecycle.spawn(async move {
                if let Ok(upgraded) = upgraded.await
                    && let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>()
                {
                    let (socket, outbox) = Socket::new(parts.io.into_inner(), &parts.read_buf, &echo.shared);
                    echo.heartbeat.register(&outbox);
                    converse(socket, &outbox, &echo.lifecycle).await;
                }
            });
            Ok(response)
        }
        _ => {
            let mut response = Response::new(Empty::new());
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            Ok(response)
        }
    }
}

async fn converse(mut socket: Socket, outbox: &Outbox, lifecycle: &Lifecycle) {
    loop {
        let frame = tokio::select! {
            () = lifecycle.stopping() => {
                outbox.close(Close::GOING_AWAY);
                break;
            }
            incoming = socket.next() => match incoming {
                Incoming::Text(text) => Frame::text(text.as_bytes()),
                Incoming::Binary(bytes) => Frame::binary(&bytes),
                Incoming::Control => continue,
                Incoming::Closed(_) => break,
            },
        };
        let _ = outbox.push(&frame, Class::Message); // an end is the next thing that the socket brings
    }
    socket.finish().await;
}
