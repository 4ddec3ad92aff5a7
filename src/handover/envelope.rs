//! The message to Celery (its protocol 2, as kombu puts it into a list of Redis), and the check that nothing else is
//! ever put there.
//!
//! One malformed element stops a worker, or makes it take no more. So there is one writer, of typed tasks only, and
//! what it wrote is read again before it leaves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Task;
use crate::domain::Micros;

/// Why an element must not be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hazard {
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("its content type or encoding is not that of JSON in UTF-8")]
    Content,
    #[error("its body is not the base64 of [[], {{…}}, {{…}}]")]
    Body,
    #[error("its headers lack a task, an id or a pair of time limits, or a time is none")]
    Headers,
    #[error("its properties do not say where it goes")]
    Properties,
    #[error("its queue is not the list that it is pushed to")]
    Queue,
}

/// Writes a task's element. `origin` is this gateway's name, for people.
#[must_use]
pub fn write(task: &Task, origin: &str, now: Micros) -> Vec<u8> {
    let arguments: Map<String, Value> =
        task.arguments().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let shown: Vec<String> =
        task.arguments().iter().map(|(name, value)| format!("'{name}': {}", repr(value))).collect();
    let embed = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
    let body = BASE64.encode(json!([[], arguments, embed]).to_string());
    let (id, queue) = (task.id.to_string(), task.queue.as_str());
    let left = (task.expires - now.0).max(0) / 1_000;
    let element = json!({
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task.name,
            "id": id,
            "shadow": null,
            "eta": null,
            "expires": Micros(task.expires).to_string(),
            "group": null,
            "group_index": null,
            "retries": 0,
            "timelimit": [null, null],
            "root_id": id,
            "parent_id": null,
            "argsrepr": "()",
            "kwargsrepr": format!("{{{}}}", shown.join(", ")),
            "origin": origin,
            "ignore_result": true,
            "replaced_task_nesting": 0,
            "stamped_headers": null,
            "stamps": {},
        },
        "properties": {
            "correlation_id": id,
            "reply_to": "",
            "delivery_mode": 2,
            "expiration": left.to_string(),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": Uuid::new_v4().to_string(),
        },
    });
    element.to_string().into_bytes()
}

/// As Python would show it; ids need no escaping.
fn repr(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

/// Makes sure that a worker can take an element from a list.
///
/// # Errors
/// What would stop it, or make it throw the element away.
pub fn check(element: &[u8], list: &str) -> Result<(), Hazard> {
    let element: Value = serde_json::from_slice(element).map_err(|_| Hazard::NotAnObject)?;
    let element = element.as_object().ok_or(Hazard::NotAnObject)?;
    let text = |name: &str| element.get(name).and_then(Value::as_str);
    if text("content-type") != Some("application/json") || text("content-encoding") != Some("utf-8") {
        return Err(Hazard::Content);
    }
    check_body(text("body").unwrap_or_default()).ok_or(Hazard::Body)?;
    element.get("headers").and_then(check_headers).ok_or(Hazard::Headers)?;
    let queue = element.get("properties").and_then(check_properties).ok_or(Hazard::Properties)?;
    if queue == list && !list.is_empty() { Ok(()) } else { Err(Hazard::Queue) }
}

fn check_body(body: &str) -> Option<()> {
    let body: Value = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
    match body.as_array()?.as_slice() {
        [Value::Array(_), Value::Object(_), Value::Object(_)] => Some(()),
        _ => None,
    }
}

fn check_headers(headers: &Value) -> Option<()> {
    let task = headers.get("task")?.as_str()?;
    let id = headers.get("id")?.as_str()?;
    let time = |name: &str| match headers.get(name) {
        None | Some(Value::Null) => Some(()),
        Some(Value::String(text)) => text.parse::<jiff::Timestamp>().ok().map(|_| ()),
        Some(_) => None,
    };
    time("eta")?;
    time("expires")?;
    let limits = headers.get("timelimit")?.as_array()?;
    (is_name(task) && Uuid::try_parse(id).is_ok() && limits.len() == 2).then_some(())
}

/// Gives the queue.
fn check_properties(properties: &Value) -> Option<&str> {
    let tag = properties.get("delivery_tag")?.as_str()?;
    let way = properties.get("delivery_info")?;
    way.get("exchange")?.as_str()?;
    let coded = properties.get("body_encoding")?.as_str()? == "base64";
    let queue = way.get("routing_key")?.as_str()?;
    (coded && !tag.is_empty()).then_some(queue)
}

/// A task's name: Python's names with dots between.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.len() <= 200 && name.split('.').all(part)
}
