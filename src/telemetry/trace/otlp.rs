//! Spans as OTLP writes them in JSON: ids in hexadecimal, times as strings of nanoseconds, enumerations as numbers.

use serde_json::{Value as Json, json};

use super::{Ended, Kind, Value};

/// One export of spans of one process. `service` and `instance` are what it is called in traces.
pub(super) fn request(service: &str, instance: &str, spans: &[Ended]) -> Json {
    let resource = [
        text("service.name", service),
        text("service.instance.id", instance),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "community-gateway", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(ended: &Ended) -> Json {
    let open = &ended.open;
    let started = u128::try_from(open.started.0).unwrap_or_default() * 1000;
    let kind = match open.kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    };
    let attributes: Vec<_> = open
        .notes
        .iter()
        .map(|(key, value)| match value {
            Value::Word(word) => text(key, word),
            Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
        })
        .collect();
    json!({
        "traceId": open.context.trace_id(),
        "spanId": id(open.context.span),
        "parentSpanId": open.parent.map_or_else(String::new, id),
        "name": open.name,
        "kind": kind,
        "startTimeUnixNano": started.to_string(),
        "endTimeUnixNano": (started + ended.took.as_nanos()).to_string(),
        "attributes": attributes,
        "status": {"code": if open.failed { 2 } else { 0 }},
        "flags": 1,
    })
}

fn id(span: u64) -> String {
    format!("{span:016x}")
}

fn text(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}
