//! Texts that wait for their answer: who waits for which, what is queued, and what may be sent next.
//!
//! A text that several wait for is asked once. Who goes away takes the text along: from the queue if nobody else waits
//! for it, and from the request when it was the last of its texts. One short lock; nothing here waits.

mod batch;
mod learn;
mod seat;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(super) use batch::{Batch, Texts};
pub(super) use seat::Seat;

use batch::Request;

use super::breaker::Breaker;
use super::budget::{self, Budget};
use super::cache::{Cache, TextKey};
use super::{Settings, Unavailable};
use crate::moderation::scores::Scores;
use crate::telemetry::Metrics;

/// What somebody waits for.
pub(super) type Answer = Result<Arc<Scores>, Unavailable>;

/// Most tokens of one request, by our estimate, unless one text alone has more.
const BATCH_TOKENS: u32 = 16_000;

/// A text on its way.
struct Flight {
    text: Arc<str>,
    tokens: u32,
    /// When the last of those who wait gives up.
    until: Instant,
    answer: watch::Sender<Option<Answer>>,
    /// The request that it is in; queued if none.
    request: Option<Arc<Request>>,
}

struct State {
    flights: HashMap<TextKey, Flight>,
    /// Exactly the flights that have no request, oldest first.
    queue: VecDeque<TextKey>,
    queued_tokens: u64,
    budget: Budget,
    breaker: Breaker,
}

/// What may be sent next.
pub(super) enum Next {
    Nothing,
    /// Something, but not before.
    At(Instant),
    Ready,
}

/// The desk.
pub(super) struct Desk {
    state: Mutex<State>,
    cache: Cache,
    settings: Settings,
    metrics: Arc<Metrics>,
    /// Something was queued, or the budget has changed.
    pub work: Notify,
    /// The breaker opened, or is to be probed at once.
    pub opened: Notify,
}

/// How a text was received.
pub(super) enum Received {
    Known(Arc<Scores>),
    Waiting(Seat),
}

impl Desk {
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let state = State {
            flights: HashMap::new(),
            queue: VecDeque::new(),
            queued_tokens: 0,
            budget: Budget::new(settings.requests_per_minute, settings.tokens_per_minute, Instant::now()),
            breaker: Breaker::new(settings.breaker),
        };
        let cache = Cache::new(settings.cache, settings.cache_life);
        Self { state: Mutex::new(state), cache, settings, metrics, work: Notify::new(), opened: Notify::new() }
    }

    /// Receives a text that somebody waits for `until` then.
    pub fn receive(self: &Arc<Self>, text: &str, until: Instant) -> Result<Received, Unavailable> {
        let now = Instant::now();
        let key = self.cache.key(text);
        let answered = |how: &str| self.metrics.openai_texts_total.with_label_values(&[how]).inc();
        if let Some(scores) = self.cache.get(key, now) {
            answered("cache");
            return Ok(Received::Known(scores));
        }
        let mut state = self.state.lock();
        if let Some(fault) = state.breaker.open() {
            state.breaker.turn_away(1);
            return Err(Unavailable::while_open(fault));
        }
        if let Some(flight) = state.flights.get_mut(&key) {
            flight.until = flight.until.max(until);
            answered("shared");
            return Ok(Received::Waiting(Seat::new(self, key, flight.answer.subscribe())));
        }
        if state.queue.len() >= self.settings.queue {
            return Err(Unavailable::Busy);
        }
        let (tokens, ahead) = (budget::tokens(text), state.queued_tokens);
        if state.budget.ready(tokens, ahead, now) > until {
            return Err(Unavailable::Budget);
        }
        let (answer, answering) = watch::channel(None);
        state.flights.insert(key, Flight { text: text.into(), tokens, until, answer, request: None });
        state.queue.push_back(key);
        state.queued_tokens += u64::from(tokens);
        self.show(&state);
        drop(state);
        answered("asked");
        self.work.notify_one();
        Ok(Received::Waiting(Seat::new(self, key, answering)))
    }

    /// When the oldest text that waits may be sent. Those that the budget cannot serve in time learn it now.
    pub fn next(&self, now: Instant) -> Next {
        let state = &mut *self.state.lock();
        while let Some((key, flight)) = state.oldest() {
            let (tokens, until) = (flight.tokens, flight.until);
            let ready = state.budget.ready(tokens, 0, now);
            if ready <= now {
                return Next::Ready;
            }
            if ready <= until {
                return Next::At(ready);
            }
            state.unqueue(key);
            state.complete(key, Err(Unavailable::Budget));
            self.show(state);
        }
        Next::Nothing
    }

    /// Takes what waits into one request: as much as the request and the budget hold.
    pub fn take(self: &Arc<Self>, now: Instant) -> Option<Batch> {
        let state = &mut *self.state.lock();
        let request = Arc::new(Request::default());
        let (mut keys, mut total) = (Vec::new(), 0_u32);
        while let Some((key, flight)) = state.oldest() {
            let with = total.saturating_add(flight.tokens);
            let full = keys.len() >= self.settings.batch || !keys.is_empty() && with > BATCH_TOKENS;
            if full || state.budget.ready(with, 0, now) > now {
                break;
            }
            total = with;
            keys.push(key);
            state.unqueue(key);
            if let Some(flight) = state.flights.get_mut(&key) {
                flight.request = Some(Arc::clone(&request));
            }
        }
        self.show(state);
        if keys.is_empty() {
            return None;
        }
        state.budget.take(total, now);
        request.left.store(keys.len(), Ordering::Relaxed);
        Some(Batch { desk: Arc::clone(self), keys, request })
    }

    /// Pays for a request that [`Desk::take`] has not paid for.
    pub fn pay(&self, tokens: u32) {
        self.state.lock().budget.take(tokens, Instant::now());
    }

    /// When a request of so many tokens could be paid for.
    pub fn payable(&self, tokens: u32, now: Instant) -> Instant {
        self.state.lock().budget.ready(tokens, 0, now)
    }

    /// Why nothing is to be sent now, if so; the texts count as turned away.
    pub fn refusal(&self, texts: usize) -> Option<Unavailable> {
        let mut state = self.state.lock();
        let fault = state.breaker.open()?;
        state.breaker.turn_away(texts as u64);
        Some(Unavailable::while_open(fault))
    }

    /// Keeps verdicts and gives them to those who wait.
    pub fn settle(&self, batch: &Batch, keys: &[TextKey], scores: Vec<Scores>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for (key, scores) in keys.iter().zip(scores) {
            let scores = Arc::new(scores);
            self.cache.keep(*key, Arc::clone(&scores), now);
            state.complete_in(batch, *key, Ok(scores));
        }
    }

    /// Gives up on texts.
    pub fn give_up(&self, batch: &Batch, keys: &[TextKey], why: Unavailable) {
        let mut state = self.state.lock();
        for key in keys {
            state.complete_in(batch, *key, Err(why));
        }
    }

    /// Somebody does not wait any more, and perhaps nobody does.
    fn leave(&self, key: TextKey, late: bool) {
        let state = &mut *self.state.lock();
        // Another flight of the same text has somebody of its own who waits.
        let Some(flight) = state.flights.get(&key).filter(|flight| flight.answer.receiver_count() == 0) else { return };
        match flight.request.clone() {
            Some(request) => {
                request.late.fetch_or(late, Ordering::Relaxed);
                request.one_less();
            }
            None => {
                state.unqueue(key);
                self.show(state);
            }
        }
        state.flights.remove(&key);
    }

    fn show(&self, state: &State) {
        self.metrics.openai_queue.set(state.queue.len() as i64);
        self.metrics.openai_breaker.set(state.breaker.gauge());
    }
}

impl State {
    fn oldest(&self) -> Option<(TextKey, &Flight)> {
        let key = *self.queue.front()?;
        Some((key, self.flights.get(&key)?))
    }

    /// Takes a text out of the queue; most often it is the first.
    fn unqueue(&mut self, key: TextKey) {
        if let Some(at) = self.queue.iter().position(|queued| *queued == key) {
            self.queue.remove(at);
            self.queued_tokens -= self.flights.get(&key).map_or(0, |flight| u64::from(flight.tokens));
        }
    }

    fn complete(&mut self, key: TextKey, answer: Answer) {
        if let Some(flight) = self.flights.remove(&key) {
            if let Some(request) = &flight.request {
                request.one_less();
            }
            flight.answer.send_replace(Some(answer));
        }
    }

    /// Completes a text unless all have left it; the same text may be queued again since.
    fn complete_in(&mut self, batch: &Batch, key: TextKey, answer: Answer) {
        if self.flies_in(batch, key).is_some() {
            self.complete(key, answer);
        }
    }

    fn flies_in(&self, batch: &Batch, key: TextKey) -> Option<&Flight> {
        self.flights
            .get(&key)
            .filter(|flight| flight.request.as_ref().is_some_and(|request| Arc::ptr_eq(request, &batch.request)))
    }
}
