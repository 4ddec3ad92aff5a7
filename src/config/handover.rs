//! Celery: the broker, and what the tasks are called.

use super::parse;
use super::secret::Secret;
use super::variable::{Reader, Variable};

const BROKER: Variable = Variable::new(
    "GATEWAY_BROKER_URL",
    "redis://127.0.0.1:6379/0",
    "Celery's broker, one server, `redis://` or `rediss://`, no Sentinels and no Cluster; empty turns task hand-over off",
)
.fallback("CELERY_BROKER_URL")
.url()
.empty_counts();
const AGENT_DM: Variable = Variable::new(
    "GATEWAY_TASK_AGENT_DM",
    "core.community.tasks.process_agent_dm_task",
    "task for each agent in a direct conversation that somebody else writes in; empty: none",
)
.empty_counts();
const MENTION: Variable = Variable::new(
    "GATEWAY_TASK_MENTION",
    "",
    "task for who is mentioned and not online, such as `community_gateway.tasks.notify_mention`; empty: none",
)
.empty_counts();
const REPLY: Variable = Variable::new(
    "GATEWAY_TASK_REPLY",
    "",
    "task for whose message is answered and who is not online, such as `community_gateway.tasks.notify_reply`; empty: none",
)
.empty_counts();
const DM: Variable = Variable::new(
    "GATEWAY_TASK_DM",
    "",
    "task for who gets a direct message and is not online, such as `community_gateway.tasks.notify_dm`; empty: none",
)
.empty_counts();
const QUEUE: Variable = Variable::new("GATEWAY_TASK_QUEUE", "celery", "the queue of the agents' tasks");
const NOTICE_QUEUE: Variable =
    Variable::new("GATEWAY_TASK_NOTIFY_QUEUE", "celery", "the queue of the tasks that tell people of something");

pub(super) const VARIABLES: &[Variable] = &[BROKER, AGENT_DM, MENTION, REPLY, DM, QUEUE, NOTICE_QUEUE];

/// What is handed over to Celery, and where.
#[derive(Clone, Debug)]
pub struct Handover {
    /// `redis://…` or `rediss://…`; `None` turns it off.
    pub broker: Option<Secret>,
    /// The task for agents. Empty names turn their tasks off.
    pub agent_dm: String,
    /// The task for who is mentioned.
    pub mention: String,
    /// The task for whose message is answered.
    pub reply: String,
    /// The task for who gets a direct message.
    pub dm: String,
    /// The queue of the first.
    pub queue: String,
    /// The queue of the others.
    pub notice_queue: String,
}

impl Handover {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let broker = reader.take(&BROKER, |text| match text.trim() {
            "" => Ok(None),
            url => {
                parse::redis(url).map(Some).map_err(|why| format!("{why}; leave it empty if the broker is no Redis"))
            }
        });
        let (agent_dm, mention) = (reader.take(&AGENT_DM, task), reader.take(&MENTION, task));
        let (reply, dm) = (reader.take(&REPLY, task), reader.take(&DM, task));
        let (queue, notice_queue) = (reader.take(&QUEUE, queue), reader.take(&NOTICE_QUEUE, queue));
        Some(Self {
            broker: broker?,
            agent_dm: agent_dm?,
            mention: mention?,
            reply: reply?,
            dm: dm?,
            queue: queue?,
            notice_queue: notice_queue?,
        })
    }
}

/// A task's name: Python's names with dots between, or nothing.
fn task(text: &str) -> Result<String, String> {
    let text = text.trim();
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if text.is_empty() || text.len() <= 200 && text.split('.').all(part) {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not a task's name, such as app.tasks.notify"))
    }
}

fn queue(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() <= 100 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not a queue's name: letters of ASCII without blanks"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["", "tasks.notify", "a._b.c2"] {
            assert_eq!(task(name).as_deref(), Ok(name));
        }
        for name in ["tasks..notify", ".a", "a.", "a b", "a'b", "é", "2a"] {
            assert!(task(name).is_err(), "{name}");
        }
        for name in ["", "a b", "celery\u{6}\u{16}3"] {
            assert!(queue(name).is_err(), "{name}");
        }
    }
}
