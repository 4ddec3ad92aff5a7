//! Traces: what became of one frame, from its sender to each instance's delivery.
//!
//! Owns the decision which frames are traced, the spans, and the way of the context inside this process: it belongs to the
//! piece of work that a thread polls right now. Across instances it travels in the envelope. A context exists only for what
//! is traced; without one a span is an empty box, and asking for one reads a thread's own cell.
//!
//! Must never wait, and never hold a text, a name, a token or an address.

mod context;
mod export;
mod otlp;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use context::Context;
pub use export::{Exporter, StartError, start};

use crate::domain::Micros;

/// The process has one collector, as it has one log.
static TRACER: OnceLock<Tracer> = OnceLock::new();

thread_local! {
    /// What is being worked on by this thread.
    static NOW: Cell<Option<Context>> = const { Cell::new(None) };
}

/// Decides what is traced, and takes spans that have ended.
#[derive(Debug)]
struct Tracer {
    share: f64,
    ended: export::Queue,
}

/// Whose work a span is, as OpenTelemetry tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Inside this instance.
    Internal,
    /// A client asked for it.
    Server,
    /// Asked of a database.
    Client,
    /// It goes out to the instances.
    Producer,
    /// It came from an instance.
    Consumer,
}

/// A value in a span: a word of ours, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a bounded set.
    Word(&'static str),
    /// A count.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A piece of work that is traced, or is not. Ends when it is dropped.
#[derive(Debug, Default)]
#[must_use = "a span lasts as long as it is kept"]
pub struct Span(Option<Box<Open>>);

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    context: Context,
    parent: Option<u64>,
    name: &'static str,
    kind: Kind,
    started: Micros,
    began: Instant,
    failed: bool,
    notes: Vec<(&'static str, Value)>,
    /// Gives the trace's id to lines of the log. None inside another span, which has it already.
    log: Option<tracing::Span>,
}

/// A span that has ended.
#[derive(Debug)]
struct Ended {
    open: Box<Open>,
    took: Duration,
}

impl Span {
    /// Perhaps begins a trace, with a piece of work that began earlier.
    pub fn root(name: &'static str, began: Instant) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        if tracer.share < 1.0 && rand::random::<f64>() >= tracer.share {
            return Self(None);
        }
        Self::begin(Context::new(), None, name, Kind::Server, began, true)
    }

    /// A part of what this thread works on, if that is traced.
    pub fn child(name: &'static str, kind: Kind) -> Self {
        let Some(parent) = current() else { return Self(None) };
        Self::begin(parent.child(), Some(parent.span), name, kind, Instant::now(), false)
    }

    /// What follows from a piece of work of another task or another instance, if that is traced, and began earlier.
    pub fn following(parent: Option<Context>, name: &'static str, kind: Kind, began: Instant) -> Self {
        let Some(parent) = parent.filter(|_| TRACER.get().is_some()) else { return Self(None) };
        Self::begin(parent.child(), Some(parent.span), name, kind, began, true)
    }

    fn begin(
        context: Context,
        parent: Option<u64>,
        name: &'static str,
        kind: Kind,
        began: Instant,
        enters_log: bool,
    ) -> Self {
        let age = i64::try_from(began.elapsed().as_micros()).unwrap_or_default();
        let started = Micros(Micros::now().0 - age);
        let log = enters_log.then(|| tracing::error_span!("trace", trace_id = %context.trace_id()));
        Self(Some(Box::new(Open {
            context,
            parent,
            name,
            kind,
            started,
            began,
            failed: false,
            notes: Vec::new(),
            log,
        })))
    }

    /// What its parts refer to; `None` when it is not traced.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        self.0.as_ref().map(|open| open.context)
    }

    /// Names it anew.
    pub fn rename(&mut self, name: &'static str) {
        if let Some(open) = &mut self.0 {
            open.name = name;
        }
    }

    /// Adds what is known of it.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.notes.push((key, value.into()));
        }
    }

    /// It did not come to what it should have.
    pub fn fail(&mut self) {
        if let Some(open) = &mut self.0 {
            open.failed = true;
        }
    }

    /// What gives its trace's id to a line of the log.
    #[must_use]
    pub fn log(&self) -> Option<tracing::Id> {
        self.0.as_ref().and_then(|open| open.log.as_ref()?.id())
    }

    /// Notes a part of it that ends now.
    pub fn ended_part(&self, name: &'static str, began: Instant) {
        if let Some(open) = &self.0 {
            drop(Self::begin(open.context.child(), Some(open.context.span), name, Kind::Internal, began, false));
        }
    }

    /// Does a piece of work inside it: what is asked for a span meanwhile gives a part of this one.
    ///
    /// # Cancel safety
    /// As safe as `work`.
    pub async fn within<F: Future>(&self, work: F) -> F::Output {
        let Some(open) = &self.0 else { return work.await };
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _log = open.log.as_ref().map(tracing::Span::enter);
            let _now = Before::replace(open.context);
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(open), Some(tracer)) = (self.0.take(), TRACER.get()) {
            let took = open.began.elapsed();
            tracer.ended.push(Ended { open, took });
        }
    }
}

/// What this thread works on, if that is traced.
#[must_use]
pub fn current() -> Option<Context> {
    NOW.get()
}

/// What the thread worked on before; put back also when the work panics.
struct Before(Option<Context>);

impl Before {
    fn replace(context: Context) -> Self {
        Self(NOW.replace(Some(context)))
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        NOW.set(self.0);
    }
}
