//! The private listener: is it alive, is it ready, what does it count.
//!
//! It runs on a thread and a runtime of its own, so that it answers while the gateway is busy, and during the drain
//! until the very end. It must never be reachable from outside: it asks nobody who they are. What is below `/admin/` goes to
//! another, who does.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::accept;
use super::answer::{Answer, answer, error};
use super::desk::{self, AdminRequest};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{Health, Metrics};

/// Connections at the same time; more wait in the kernel.
const CONCURRENT: usize = 32;
/// How many of them may ask operators' questions, which wait for other instances: the rest is there for probes.
const OPERATORS: usize = 8;
/// Longest time for the head of a request: who says nothing is gone before a probe gives up.
const HEAD: Duration = Duration::from_secs(2);
/// Longest time for one request, from `accept` to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The private listener, bound and not yet answering.
#[derive(Debug)]
pub struct Ops {
    listener: StdTcpListener,
    address: SocketAddr,
    answers: Answers,
}

impl Ops {
    /// Binds the listener, and logs its address.
    ///
    /// # Errors
    /// When the operating system refuses the address.
    pub fn bind(address: SocketAddr, metrics: Arc<Metrics>, health: Arc<Health>) -> io::Result<Self> {
        let listener = accept::listen(address)?;
        let address = listener.local_addr()?;
        tracing::info!(listener = "ops", %address, "listening");
        Ok(Self {
            listener,
            address,
            answers: Answers { metrics, health, desk: None, operators: Semaphore::new(OPERATORS) },
        })
    }

    /// Hands what is asked below `/admin/` to somebody; otherwise there is nothing there.
    #[must_use]
    pub fn with_desk(mut self, desk: mpsc::Sender<AdminRequest>) -> Self {
        self.answers.desk = Some(desk);
        self
    }

    /// The address that it is bound to, with the port that was found if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts to answer, until what is returned is dropped. From the beginning of the shutdown on, it is not ready.
    ///
    /// # Errors
    /// When the operating system refuses a thread or the runtime's files.
    pub fn run(self, lifecycle: Lifecycle) -> io::Result<OpsThread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = CancellationToken::new();
        let ended = end.clone();
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(self.listener)?
        };
        let served = serve(listener, Arc::new(self.answers), lifecycle);
        let thread = std::thread::Builder::new().name("ops".to_owned()).spawn(move || {
            runtime.block_on(ended.run_until_cancelled(served));
        })?;
        Ok(OpsThread { end, thread: Some(thread) })
    }
}

/// The private listener at work. It ends when this is dropped, which the gateway does last.
#[derive(Debug)]
pub struct OpsThread {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for OpsThread {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the ops listener panicked");
        }
    }
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, lifecycle: Lifecycle) {
    // The tasks' parent: they belong to this thread, end with it, and the shutdown must not wait for them.
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = requests.join_next() => {
                if ended.is_err() {
                    tracing::error!("a request to the ops listener panicked");
                }
            }
            (stream, _) = accept::next(&listener), if requests.len() < CONCURRENT => {
                requests.spawn(respond(stream, Arc::clone(&answers), lifecycle.clone()));
            }
        }
    }
}

async fn respond(stream: TcpStream, answers: Arc<Answers>, lifecycle: Lifecycle) {
    let service = service_fn(|request: Request<Incoming>| async {
        Ok::<_, Infallible>(match &answers.desk {
            Some(desk) if is_for_desk(request.uri().path()) => match answers.operators.try_acquire() {
                Ok(_place) => desk::ask(request, desk).await,
                Err(_) => desk::too_much(),
            },
            _ => answers.answer(&request, &lifecycle),
        })
    });
    // Every answer closes, so that idle connections never fill the door.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away or is too slow has only itself to tell.
    let _ = tokio::time::timeout(DEADLINE, connection).await;
}

fn is_for_desk(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

#[derive(Debug)]
struct Answers {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    desk: Option<mpsc::Sender<AdminRequest>>,
    operators: Semaphore,
}

impl Answers {
    fn answer<B: Body>(&self, request: &Request<B>, lifecycle: &Lifecycle) -> Answer {
        let answer: fn(&Self, &Lifecycle) -> Answer = match request.uri().path() {
            "/" => |_, _| text("community-gateway: /livez /readyz /metrics /admin/\n"),
            "/livez" => |_, _| text("ok"),
            "/readyz" => Self::ready,
            "/metrics" => Self::metrics,
            _ => return error(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path"),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is allowed here");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        answer(self, lifecycle)
    }

    fn ready(&self, lifecycle: &Lifecycle) -> Answer {
        let mut faults = self.health.faults();
        if lifecycle.is_leaving() {
            faults.push(("draining", "the gateway is going away".to_owned()));
        }
        if faults.is_empty() {
            return answer(StatusCode::OK, "application/json", r#"{"ready":true}"#);
        }
        let faults: Vec<_> = faults.iter().map(|(part, why)| serde_json::json!({ "part": part, "why": why })).collect();
        answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", serde_json::Value::from(faults).to_string())
    }

    fn metrics(&self, _: &Lifecycle) -> Answer {
        match self.metrics.encode() {
            Ok(encoded) => answer(StatusCode::OK, METRICS, encoded),
            Err(cause) => {
                tracing::error!(%cause, "cannot encode the metrics");
                error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The metrics cannot be encoded")
            }
        }
    }
}

fn text(body: &'static str) -> Answer {
    answer(StatusCode::OK, "text/plain; charset=utf-8", body)
}
