//! Sends spans to the collector.
//!
//! Owns the queue between those who work and the one task that sends. Whoever ends a span never waits: a full queue drops it,
//! and so does a collector that does not take it; both are counted. At the end of the process what is queued is sent once
//! more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect, retry};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Ended, TRACER, Tracer, otlp};
use crate::config::Trace;
use crate::domain::InstanceName;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// Spans that may wait; one more is dropped.
const WAITING: usize = 8_192;
/// Spans of one request at most.
const TOGETHER: usize = 512;
/// How long spans are gathered for one request.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector has for one request.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long it has for the last ones, while the process ends.
const LAST: Duration = Duration::from_millis(700);
/// How often the log says that it does not take them.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Why there will be no traces.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be used.
    #[error("the collector's address cannot be used")]
    Endpoint,
    /// A header cannot be sent.
    #[error("a header for the collector cannot be sent")]
    Header,
    /// TLS cannot be set up.
    #[error("no client for the collector can be made: {0}")]
    Client(#[source] reqwest::Error),
    /// The process has a collector already.
    #[error("traces go somewhere already")]
    Started,
}

/// Where spans go that have ended.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Ended>,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(super) fn push(&self, ended: Ended) {
        if self.sender.try_send(ended).is_err() {
            self.metrics.trace_spans_total.with_label_values(&["dropped"]).inc();
        }
    }
}

/// The one task that sends.
pub struct Exporter {
    queue: mpsc::Receiver<Ended>,
    http: Client,
    endpoint: Url,
    service: String,
    instance: String,
    metrics: Arc<Metrics>,
    complained: Option<Instant>,
}

/// Turns traces on for the whole process. What it returns must be run.
///
/// # Errors
/// When the settings cannot be used, or traces are on already.
pub fn start(settings: &Trace, instance: &InstanceName, metrics: &Arc<Metrics>) -> Result<Exporter, StartError> {
    let endpoint = Url::parse(&settings.endpoint).map_err(|_| StartError::Endpoint)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| StartError::Header)?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| StartError::Header)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let http = Client::builder()
        .user_agent(concat!("community-gateway/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none()) // the headers go to this address and no other
        .retry(retry::never())
        .connect_timeout(DEADLINE)
        .build()
        .map_err(StartError::Client)?;
    let (sender, queue) = mpsc::channel(WAITING);
    let tracer = Tracer { share: settings.share, ended: Queue { sender, metrics: Arc::clone(metrics) } };
    TRACER.set(tracer).map_err(|_| StartError::Started)?;
    tracing::info!(share = settings.share, "frames are traced");
    Ok(Exporter {
        queue,
        http,
        endpoint,
        service: settings.service.clone(),
        instance: instance.to_string(),
        metrics: Arc::clone(metrics),
        complained: None,
    })
}

impl Exporter {
    /// Sends spans until the process stops, and what is queued then.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        let mut batch = Vec::with_capacity(TOGETHER);
        loop {
            let ending = tokio::select! {
                biased;
                () = lifecycle.aborted() => true,
                () = gather(&mut self.queue, &mut batch) => false,
            };
            if ending {
                self.flush(batch).await;
                return;
            }
            // The end of the process takes the request with it, and makes it again with what came meanwhile.
            let sent = tokio::select! {
                () = lifecycle.aborted() => None,
                sent = self.send(&batch, DEADLINE) => Some(sent),
            };
            match sent {
                Some(sent) => self.settle(&mut batch, sent),
                None => return self.flush(batch).await,
            }
        }
    }

    /// Sends all that is left, in one request: there is time for no more.
    async fn flush(mut self, mut batch: Vec<Ended>) {
        while let Ok(ended) = self.queue.try_recv() {
            batch.push(ended);
        }
        if !batch.is_empty() {
            let sent = self.send(&batch, LAST).await;
            self.settle(&mut batch, sent);
        }
    }

    fn settle(&mut self, batch: &mut Vec<Ended>, sent: Result<(), &'static str>) {
        let outcome = if sent.is_ok() { "exported" } else { "failed" };
        self.metrics.trace_spans_total.with_label_values(&[outcome]).inc_by(batch.len() as u64);
        if let Err(why) = sent
            && self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            tracing::warn!(why, spans = batch.len(), "the collector does not take spans: these are lost");
        }
        batch.clear();
    }

    /// Sends spans once: a collector that is away is not waited for.
    async fn send(&self, batch: &[Ended], deadline: Duration) -> Result<(), &'static str> {
        let body = otlp::request(&self.service, &self.instance, batch).to_string();
        let asking = async {
            let response = self.http.post(self.endpoint.clone()).body(body).send().await;
            let response = response.map_err(|_| "it cannot be reached")?;
            if response.status().is_success() { Ok(()) } else { Err("it refuses them") }
        };
        timeout(deadline, asking).await.unwrap_or(Err("it does not answer in time"))
    }
}

/// Waits for spans, and a moment for more.
///
/// # Cancel safety
/// Safe: what was taken is in `batch`.
async fn gather(queue: &mut mpsc::Receiver<Ended>, batch: &mut Vec<Ended>) {
    if queue.recv_many(batch, TOGETHER).await == 0 {
        return std::future::pending().await; // nobody is left who could send
    }
    let more = async {
        while batch.len() < TOGETHER {
            let room = TOGETHER - batch.len();
            if queue.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    let _ = timeout(GATHER, more).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::{Context, Kind, Open};

    fn ended() -> Ended {
        let open = Open {
            context: Context { trace: 1, span: 2 },
            parent: None,
            name: "work",
            kind: Kind::Internal,
            started: crate::domain::Micros(1),
            began: Instant::now(),
            failed: false,
            notes: Vec::new(),
            log: None,
        };
        Ended { open: Box::new(open), took: Duration::from_nanos(1_500) }
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let metrics = Arc::new(Metrics::new().expect("names are valid"));
        let (sender, mut waiting) = mpsc::channel(2);
        let queue = Queue { sender, metrics: Arc::clone(&metrics) };
        for _ in 0..5 {
            queue.push(ended());
        }
        assert_eq!(metrics.trace_spans_total.with_label_values(&["dropped"]).get(), 3);
        assert!(waiting.try_recv().is_ok() && waiting.try_recv().is_ok() && waiting.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn spans_are_gathered_for_a_moment_and_in_bounds() {
        let (sender, mut queue) = mpsc::channel(TOGETHER * 2);
        for _ in 0..TOGETHER + 1 {
            sender.try_send(ended()).expect("there is room");
        }
        let (mut batch, began) = (Vec::new(), tokio::time::Instant::now());
        gather(&mut queue, &mut batch).await;
        assert_eq!((batch.len(), began.elapsed()), (TOGETHER, Duration::ZERO), "a full request waits for nothing");
        batch.clear();
        gather(&mut queue, &mut batch).await;
        assert_eq!((batch.len(), began.elapsed()), (1, GATHER));
    }
}
