//! Traces: one from a sender's frame to each instance's delivery, sent to a collector that may be of no use.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::dm::{conversation, path};
use crate::support::{FakeOpenAi, GatewayBuilder, RoomSpec, Stack, TestClient, eventually};

/// A span as the collector got it, with the instance that sent it.
#[derive(Clone, Debug)]
struct Span {
    instance: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    attributes: Value,
    started: u128,
    ended: u128,
}

/// An OTLP collector of the test's own.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _task: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::default();
        let mut task = JoinSet::new();
        let received = Arc::clone(&spans);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&received)));
            }
        });
        Self { url, spans, _task: task }
    }

    /// All spans of the trace that began with a frame of this type; empty before it came.
    fn trace_of(&self, frame: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap().clone();
        let root = spans.iter().find(|span| span.name == frame && span.parent.is_empty()).cloned();
        root.map_or(Vec::new(), |root| spans.into_iter().filter(|span| span.trace == root.trace).collect())
    }

    /// The trace of a frame that was delivered on so many instances. Spans come in the order in which they end, and those of
    /// two instances in none.
    async fn delivered(&self, frame: &str, instances: usize) -> Vec<Span> {
        let whole = || async {
            let spans = self.trace_of(frame);
            ["commit", "publish"].iter().all(|name| named(&spans, name).len() == 1)
                && named(&spans, "deliver").len() == instances
        };
        eventually(&format!("the trace of {frame}"), whole).await;
        self.trace_of(frame)
    }
}

/// Takes requests until the peer goes away.
async fn serve(stream: TcpStream, received: Arc<Mutex<Vec<Span>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            head.push_str(&std::mem::take(&mut line).to_lowercase());
        }
        if head.is_empty() {
            return;
        }
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/json\r\n") && head.contains("x-key: open sesame\r\n"),
            "{head}"
        );
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split('\r').next().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        received.lock().unwrap().extend(read(&serde_json::from_slice(&body).unwrap()));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
    }
}

fn read(request: &Value) -> Vec<Span> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut spans = Vec::new();
    for of_resource in request["resourceSpans"].as_array().unwrap() {
        let resource = attributes(&of_resource["resource"]["attributes"]);
        assert_eq!(resource["service.name"], "chat");
        for span in of_resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            spans.push(Span {
                instance: text(&resource["service.instance.id"]),
                trace: text(&span["traceId"]),
                id: text(&span["spanId"]),
                parent: text(&span["parentSpanId"]),
                name: text(&span["name"]),
                attributes: attributes(&span["attributes"]),
                started: text(&span["startTimeUnixNano"]).parse().unwrap(),
                ended: text(&span["endTimeUnixNano"]).parse().unwrap(),
            });
        }
    }
    spans
}

fn attributes(list: &Value) -> Value {
    let value = |item: &Value| item["value"].as_object().unwrap().values().next().unwrap().clone();
    list.as_array().unwrap().iter().map(|item| (item["key"].as_str().unwrap().to_owned(), value(item))).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

/// Sends spans there; begins a trace with so large a share of the frames.
fn traced(builder: GatewayBuilder, url: &str, share: u8) -> GatewayBuilder {
    builder
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=open sesame")
        .env("OTEL_TRACES_SAMPLER_ARG", share)
        .env("OTEL_SERVICE_NAME", "chat")
        .env("GATEWAY_LOG", "info,community_gateway::session=debug")
}

async fn say(author: &mut TestClient, reader: &mut TestClient, content: &str) -> Value {
    author.send(json!({"type": "send_message", "content": content, "client_id": content})).await;
    author.wait_for("message_ack").await;
    reader.wait_for("new_message").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_one_trace_from_its_frame_to_both_instances() {
    let (stack, api, collector) = (Stack::start().await, FakeOpenAi::start().await, Collector::start().await);
    let judged = |builder: GatewayBuilder| {
        builder
            .env("OPENAI_BASE_URL", api.url())
            .env("OPENAI_API_KEY", FakeOpenAi::KEY)
            .env("GATEWAY_MODERATION_DEADLINE_SECONDS", 10)
    };
    // The second begins no traces of its own, and follows those of the first.
    let one = judged(traced(stack.gateway(), &collector.url, 1)).start().await;
    let two = judged(traced(stack.gateway(), &collector.url, 0)).start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let room = stack.room(RoomSpec::default()).await;
    let (mut a, mut g) = (one.enter(&room, &ada).await, two.enter(&room, &grace).await);
    let event = say(&mut a, &mut g, "hello").await;
    assert_eq!(event["traceparent"], Value::Null, "it is not for clients");

    let spans = collector.delivered("send_message", 2).await;
    let root = only(&spans, "send_message");
    assert_eq!(root.attributes, json!({"topic": "room", "outcome": "ok"}));
    for name in ["decode", "access", "patterns", "classifier", "commit"] {
        let span = only(&spans, name);
        assert_eq!((&span.parent, &span.instance), (&root.id, &root.instance), "{name}");
        assert!(span.started <= span.ended, "{name}");
    }
    let commit = only(&spans, "commit");
    let (transaction, publish) = (only(&spans, "transaction"), only(&spans, "publish"));
    assert_eq!((&transaction.parent, &publish.parent), (&commit.id, &commit.id));
    assert_eq!(transaction.attributes, json!({"messages": "1"}));
    let inside = |span: &Span| named(&spans, "redis").iter().filter(|part| part.parent == span.id).count();
    let sql = named(&spans, "postgres").iter().filter(|part| part.parent == transaction.id).count();
    assert!(sql >= 3, "begin, insert, commit: {sql}");
    assert!(inside(transaction) >= 1, "the place in the order is taken inside the transaction");
    assert!(inside(publish) >= 1, "and it is published");
    assert!(inside(only(&spans, "access")) >= 1, "limits are counted in Redis");

    let deliveries = named(&spans, "deliver");
    assert!(deliveries.iter().all(|delivery| delivery.parent == publish.id), "{deliveries:#?}");
    assert!(deliveries.iter().all(|delivery| delivery.attributes == json!({"topic": "room", "seats": "1"})));
    let elsewhere: Vec<_> = deliveries.iter().filter(|delivery| delivery.instance != root.instance).collect();
    assert_eq!(elsewhere.len(), 1, "one on each instance");
    assert!(
        collector.spans.lock().unwrap().iter().all(|span| span.instance == root.instance || span.trace == root.trace)
    );

    let line = one.wait_for_log("a command was run").await;
    assert_eq!(line["span"]["trace_id"], root.trace.as_str(), "{line}");

    // A change is one as well.
    let message = event["message"]["id"].clone();
    a.send(json!({"type": "edit_message", "message_id": message, "content": "hello!"})).await;
    let edited = g.wait_for("message_edited").await;
    assert_eq!(edited["traceparent"], Value::Null);
    let spans = collector.delivered("edit_message", 2).await;
    assert_eq!(only(&spans, "publish").parent, only(&spans, "commit").id);
    assert!(named(&spans, "deliver").iter().all(|delivery| delivery.parent == only(&spans, "publish").id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_traced_and_the_last_spans_are_sent_at_the_end() {
    let (stack, collector) = (Stack::start().await, Collector::start().await);
    let mut gateway = traced(stack.gateway(), &collector.url, 1).start().await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let (thread, _) = conversation(&stack, &[&ada, &grace]).await;
    let mut clients = Vec::new();
    for user in [&ada, &grace] {
        let mut client = gateway.dial(&path(thread)).token(&stack.token(user).await).connect().await;
        client.expect_event("dm_state").await;
        clients.push(client);
    }
    let [a, g] = &mut clients[..] else { panic!("two sockets") };
    say(a, g, "hello").await;
    assert_eq!(gateway.terminate().await, 0);
    // Nobody sends any more.
    let spans = collector.trace_of("send_message");
    let delivery = only(&spans, "deliver");
    assert_eq!(delivery.attributes, json!({"topic": "dm", "seats": "2"}));
    assert_eq!(delivery.parent, only(&spans, "publish").id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_of_no_use_harms_nobody() {
    let stack = Stack::start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    // Connections to the first are taken and never answered, those to the second are refused.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = [&silent, &closed].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    drop(closed);
    for (collector, url) in ["silent", "closed"].into_iter().zip(urls) {
        let mut gateway = traced(stack.gateway(), &url, 1).start().await;
        let (mut a, mut g) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
        for number in 0..5 {
            say(&mut a, &mut g, &format!("{collector} {number}")).await;
        }
        let lost = || gateway.metric("community_gateway_trace_spans_total", &[("outcome", "failed")]);
        eventually("the spans are counted as lost", || async { lost().await > 0.0 }).await;
        gateway.wait_for_log("the collector does not take spans: these are lost").await;
        drop((a, g));
        let began = Instant::now();
        assert_eq!(gateway.terminate().await, 0);
        assert!(began.elapsed() < Duration::from_secs(15), "it ends as without traces: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_unless_somebody_asks_for_it() {
    let stack = Stack::start().await;
    let room = stack.room(RoomSpec::default()).await;
    let (ada, grace) = (stack.user("ada").await, stack.user("grace").await);
    let gateway = stack.gateway().env("GATEWAY_LOG", "debug").start().await;
    let (mut a, mut g) = (gateway.enter(&room, &ada).await, gateway.enter(&room, &grace).await);
    say(&mut a, &mut g, "hello").await;
    let line = gateway.wait_for_log("a command was run").await;
    assert_eq!(line["span"], Value::Null, "{line}");
    assert_eq!(gateway.metric("community_gateway_trace_spans_total", &[]).await, 0.0);
}
