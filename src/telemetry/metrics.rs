//! Every metric of the gateway, as one typed struct: the doc comment is the help text, the field is the handle.
//!
//! Labels are bounded sets of words; never an id, a name, an address or a text.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Legs;

/// Upper bounds, in seconds, of the buckets of every duration.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets of every number of things handled together.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A histogram of numbers of things, not of durations.
type CountHistogram = Histogram;

macro_rules! help {
    ($($line:literal)*) => { concat!($($line),*).trim() };
}

macro_rules! make {
    (IntCounter, $name:expr, $help:expr, []) => { IntCounter::new($name, $help) };
    (IntGauge, $name:expr, $help:expr, []) => { IntGauge::new($name, $help) };
    (Histogram, $name:expr, $help:expr, []) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()))
    };
    (CountHistogram, $name:expr, $help:expr, []) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets(COUNTS.to_vec()))
    };
    (Legs, $name:expr, $help:expr, [$($label:literal),+]) => { Legs::new($name, $help, &[$($label),+]) };
    (IntCounterVec, $name:expr, $help:expr, [$($label:literal),+]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),+])
    };
    (IntGaugeVec, $name:expr, $help:expr, [$($label:literal),+]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),+])
    };
}

macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $field:ident: $kind:ident [$($label:literal),*], )+) => {
        /// Handles of all metrics. One for each gateway, so that two can live in one process.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $doc])+ pub $field: $kind, )+
        }

        impl Metrics {
            /// Makes and registers all metrics, each named `community_gateway_` and its field.
            ///
            /// # Errors
            /// When a name or label is not one that Prometheus takes; a test constructs this, so it cannot happen in
            /// a build that passed.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                #[cfg(target_os = "linux")]
                registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
                $(
                    let $field = make!(
                        $kind,
                        concat!("community_gateway_", stringify!($field)),
                        help!($($doc)+),
                        [$($label),*]
                    )?;
                    registry.register(Box::new($field.clone()))?;
                )+
                let metrics = Self { registry, $($field),+ };
                metrics.begin();
                Ok(metrics)
            }

            /// Name, type, labels and help of every metric, for the reference table.
            #[must_use]
            pub fn reference() -> Vec<[&'static str; 4]> {
                vec![$( [
                    concat!("community_gateway_", stringify!($field)),
                    stringify!($kind),
                    concat!($($label, " "),*).trim(),
                    help!($($doc)+),
                ] ),+]
            }
        }
    };
}

metrics! {
    /// Sockets open now.
    sockets_open: IntGauge [],
    /// Sockets that may be open: `GATEWAY_LIMIT_CONNECTIONS`, or what `ulimit -n` leaves.
    sockets_limit: IntGauge [],
    /// Handshakes in progress now.
    handshakes_open: IntGauge [],
    /// Upgrades answered with 101.
    upgrades_total: IntCounter [],
    /// Requests refused before the upgrade, by reason.
    upgrades_refused_total: IntCounterVec ["reason"],
    /// TLS handshakes, by outcome (`ok` or why it failed).
    tls_handshakes_total: IntCounterVec ["outcome"],
    /// When the certificate of the public listener ends, in seconds since 1970; 0 without TLS.
    tls_certificate_not_after_seconds: IntGauge [],
    /// Sessions on their way in (`entering`: upgraded, no state sent yet) or out (`leaving`) now; who is inside, says
    /// `sessions_open`.
    sessions_passing: IntGaugeVec ["state"],
    /// Logins, by kind of credential and outcome.
    logins_total: IntCounterVec ["credential", "outcome"],
    /// Connections ended, by close code (1006: without a close frame).
    closes_total: IntCounterVec ["code"],
    /// Connections ended, by whose decision it was (`us`, `peer`, `lost`: nobody's) and our reason.
    ends_total: IntCounterVec ["by", "reason"],
    /// Sessions inside a topic now, by kind of topic.
    sessions_open: IntGaugeVec ["topic"],
    /// Frames received from clients, control frames not counted.
    frames_received_total: IntCounter [],
    /// Commands, by type and outcome (`ok` or the refusal's code).
    commands_total: IntCounterVec ["command", "outcome"],
    /// Time from a command's frame to its outcome, in seconds.
    command_seconds: Histogram [],
    /// Time of each leg of a message's way, by kind of topic, in seconds: `decode`, `access`, the layers of moderation
    /// (`patterns`, `classifier`), `commit` (its queue included), `publish` (from the commit until Redis has it), `bus` (to
    /// the arrival at an instance, as the two clocks tell), `hub` (until it is its turn), `socket` (writing it to all sockets
    /// of the topic).
    leg_seconds: Legs ["leg", "topic"],
    /// Protocol errors of clients, by what was wrong.
    protocol_errors_total: IntCounterVec ["error"],
    /// Events handed to connections.
    deliveries_total: IntCounter [],
    /// Deliveries that the hub wrote to the socket itself, without waking a task.
    deliveries_direct_total: IntCounter [],
    /// Bytes queued in all outboxes now.
    outbox_bytes: IntGauge [],
    /// Time that the oldest frame of a write had waited because its socket took no more, in seconds.
    outbox_wait_seconds: Histogram [],
    /// Queued frames replaced by a newer one of the same key, by class: `latest` (typing, presence, counts) or `control`.
    outbox_coalesced_total: IntCounterVec ["class"],
    /// Connections closed because their outbox was full, by the class of the frame that did not fit: `message` (also what was
    /// kept for a newcomer), `latest`.
    outbox_overflow_total: IntCounterVec ["class"],
    /// Topics with a seat on this instance.
    topics_open: IntGauge [],
    /// Seats on this instance.
    seats_open: IntGauge [],
    /// Channels subscribed to now.
    subscriptions_open: IntGauge [],
    /// Messages received from Redis pub/sub, by kind.
    bus_received_total: IntCounterVec ["kind"],
    /// Messages from Redis pub/sub dropped because the gateway's own queue was full.
    bus_dropped_total: IntCounter [],
    /// Payloads from Redis pub/sub that could not be read, by what was wrong.
    bus_malformed_total: IntCounterVec ["error"],
    /// Events published to Redis, by kind.
    bus_published_total: IntCounterVec ["kind"],
    /// Publishes that failed, and were retried or given up.
    bus_publish_failures_total: IntCounter [],
    /// Times that the subscriber lost its connection to Redis.
    bus_disconnects_total: IntCounter [],
    /// Gaps found in a topic's offsets.
    bus_gaps_total: IntCounter [],
    /// Events recovered for a gap, from the log or from Postgres.
    bus_gap_events_total: IntCounterVec ["source"],
    /// Events that arrived before their predecessor and waited for it.
    bus_reordered_total: IntCounter [],
    /// Time from publishing an event, on whichever instance, until this one takes it from its queue, as the two clocks tell,
    /// in seconds.
    bus_lag_seconds: Histogram [],
    /// Groups of Django's channel layer that this instance is in now.
    channels_groups: IntGauge [],
    /// Messages received from Django's channel layer.
    channels_received_total: IntCounter [],
    /// Messages from Django's channel layer that could not be read, by what was wrong.
    channels_malformed_total: IntCounterVec ["error"],
    /// Events sent to Django's consumers.
    channels_sent_total: IntCounter [],
    /// Events that did not reach Django's consumers, by reason: our own queue or an inbox was full, Redis was away for too
    /// long or refused them.
    channels_dropped_total: IntCounterVec ["reason"],
    /// Clients that came back and said where they were, by outcome: `recovered`, `retold` when some of it came from
    /// Postgres, or `state` when it could not be told; and `pushed`: states for who was connected while something was
    /// lost.
    resumes_total: IntCounterVec ["outcome"],
    /// Events sent to clients that missed them.
    resumed_events_total: IntCounter [],
    /// Time from the seat of a client that came back to the last event it missed, in seconds.
    resume_seconds: Histogram [],
    /// Tasks for Celery, by purpose and what became of them (`handed_over`, `repeated`, `online`, `expired`, `refused`,
    /// `unreadable`); `message`: messages whose owner was gone and whose tasks were `made` from Postgres, or which were
    /// never committed (`void`).
    handover_total: IntCounterVec ["task", "outcome"],
    /// Tasks that wait for the broker, all instances' together.
    handover_waiting: IntGauge [],
    /// Tasks dropped because too many waited already.
    handover_dropped_total: IntCounter [],
    /// Attempts to hand tasks over that failed and were repeated.
    handover_failures_total: IntCounter [],
    /// Messages written to Postgres.
    messages_stored_total: IntCounter [],
    /// Transactions that wrote messages.
    write_batches_total: IntCounter [],
    /// Messages that failed to be written, by reason.
    write_failures_total: IntCounterVec ["reason"],
    /// Time of a writing transaction, in seconds.
    write_seconds: Histogram [],
    /// Messages waiting to be written now.
    write_queue: IntGauge [],
    /// Connections to Postgres open now.
    store_connections_open: IntGauge [],
    /// Connections to Postgres in use now.
    store_connections_busy: IntGauge [],
    /// Time that a read waited for its turn, or anything for a connection to Postgres, in seconds.
    store_wait_seconds: Histogram [],
    /// Queries to Postgres that failed, by reason.
    store_failures_total: IntCounterVec ["reason"],
    /// State and history reads answered from a read that was already under way.
    reads_shared_total: IntCounter [],
    /// Rights of who is in that were looked up again, by outcome: `as_before`, `changed`, `lost` or `unreadable`.
    rights_checked_total: IntCounterVec ["outcome"],
    /// Refusals by a limit, by limit.
    limited_total: IntCounterVec ["limit"],
    /// Users that entered or left a room as seen by all instances, by direction.
    presence_changes_total: IntCounterVec ["direction"],
    /// Presence leases ended by the sweep because their instance is gone.
    presence_expired_total: IntCounter [],
    /// Calls to the realtime Redis that wait for an answer now; all share one connection.
    redis_calls_open: IntGauge [],
    /// Time of a call (a command, a script, a pipeline) to the realtime Redis, in seconds.
    redis_call_seconds: Histogram [],
    /// Calls to Redis that failed, by part.
    redis_failures_total: IntCounterVec ["part"],
    /// Control messages received, by action.
    control_total: IntCounterVec ["action"],
    /// Texts that were judged, by verdict and by the rule that was decisive.
    moderation_verdicts_total: IntCounterVec ["verdict", "rule"],
    /// Texts that the second layer of moderation could not judge, by what became of them.
    moderation_unjudged_total: IntCounterVec ["policy"],
    /// 1 while the second layer of moderation is on, 0 without a key.
    moderation_classifier_on: IntGauge [],
    /// 1 for the version of the moderation lists that is in force.
    moderation_lists: IntGaugeVec ["version"],
    /// Times that the moderation lists were read again, by outcome: `ok`, or `wrong` and the old ones stay.
    moderation_reloads_total: IntCounterVec ["outcome"],
    /// Requests to the moderation API, by outcome.
    openai_requests_total: IntCounterVec ["outcome"],
    /// Time of a request to the moderation API, in seconds.
    openai_request_seconds: Histogram [],
    /// Texts in one request to the moderation API.
    openai_batch_texts: CountHistogram [],
    /// Texts for the second layer of moderation: `asked`, `shared` with one in flight, or answered from the `cache`.
    openai_texts_total: IntCounterVec ["answer"],
    /// Tokens sent to the moderation API, as estimated from the texts' bytes.
    openai_tokens_total: IntCounter [],
    /// Texts waiting for a request to the moderation API now.
    openai_queue: IntGauge [],
    /// Breaker of the moderation API: 0 closed, 1 probing, 2 open.
    openai_breaker: IntGauge [],
    /// Texts that the second layer of moderation could not judge, by reason.
    openai_unavailable_total: IntCounterVec ["reason"],
    /// Version of the configuration in force: 1 at the start, one more for each reload that changed something.
    config_version: IntGauge [],
    /// Times that the configuration was read again, by outcome: `ok`, or `wrong` and the old one stays.
    config_reloads_total: IntCounterVec ["outcome"],
    /// Requests to the operations API, by route and HTTP status.
    admin_requests_total: IntCounterVec ["route", "status"],
    /// Spans of traces, by what became of them: `exported`, `dropped` (the queue was full), `failed` (the collector did not take
    /// them).
    trace_spans_total: IntCounterVec ["outcome"],
    /// 1 while the named dependency answers and delivers, else 0.
    dependency_up: IntGaugeVec ["dependency"],
}

impl Metrics {
    /// Begins the series of rare events with 0: a rate does not see the event that begins a series.
    fn begin(&self) {
        for class in ["message", "latest"] {
            self.outbox_overflow_total.with_label_values(&[class]);
        }
        for class in ["latest", "control"] {
            self.outbox_coalesced_total.with_label_values(&[class]);
        }
    }

    /// Writes all metrics in Prometheus's text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_register_and_encode() {
        let metrics = Metrics::new().expect("names are valid");
        metrics.sockets_open.inc();
        let text = String::from_utf8(metrics.encode().expect("encodes")).expect("is text");
        assert!(text.contains("community_gateway_sockets_open 1"));
        assert!(Metrics::reference().iter().all(|[_, _, _, help]| !help.is_empty()));
    }
}
