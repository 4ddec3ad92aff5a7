use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Secret;
use crate::moderation::openai::budget::Limits;
use crate::moderation::openai::client::Asked;
use crate::moderation::openai::reply::Fault;
use crate::moderation::openai::retry::Advice;

const LONG: Duration = Duration::from_secs(60);

/// Something that happens at the desk. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Receive(u8),
    Leave(usize, bool),
    Take,
    Settle(usize),
    GiveUp(usize),
    /// A request ends without any word, as when its task panics.
    Drop(usize),
    Fail,
    Recover,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u8..6).prop_map(Step::Receive),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, late)| Step::Leave(which, late)),
        3 => Just(Step::Take),
        2 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Fail),
        1 => Just(Step::Recover),
        1 => (0_u64..2_000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..120)
}

fn desk() -> Arc<Desk> {
    let settings = Settings {
        batch: 3,
        queue: 4,
        cache_life: Duration::ZERO,
        breaker: super::super::BreakerSettings { failures: 2, ..Default::default() },
        ..Settings::new("http://unused.test", Secret::new("unused"))
    };
    Arc::new(Desk::new(settings, Arc::new(Metrics::new().unwrap())))
}

fn fine() -> Asked {
    Asked { outcome: Ok(Vec::new()), advice: Advice::default(), limits: Limits::default() }
}

fn answered(seat: &Seat) -> bool {
    seat.answer.as_ref().is_some_and(|answer| answer.borrow().is_some())
}

/// What must hold after every step.
fn check(desk: &Desk, batches: &[Batch], seats: &[Seat]) {
    let state = desk.state.lock();
    assert!(state.queue.len() <= desk.settings.queue);
    let queued: Vec<_> = state.flights.iter().filter(|(_, flight)| flight.request.is_none()).collect();
    assert_eq!(queued.len(), state.queue.len(), "queued is what has no request");
    assert!(queued.iter().all(|(key, _)| state.queue.contains(key)));
    assert_eq!(state.queued_tokens, queued.iter().map(|(_, flight)| u64::from(flight.tokens)).sum::<u64>());
    for flight in state.flights.values() {
        assert!(flight.answer.receiver_count() > 0, "somebody waits for every text");
    }
    for batch in batches {
        let left = batch.keys.iter().filter(|key| state.flies_in(batch, **key).is_some()).count();
        assert_eq!(batch.request.left.load(Ordering::Relaxed), left);
        assert_eq!(batch.request.gone.is_cancelled(), left == 0);
    }
    for seat in seats {
        assert!(answered(seat) || state.flights.contains_key(&seat.key), "who waits has a text at the desk");
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_is_left_behind(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let desk = desk();
            let (mut seats, mut batches) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Receive(text) => {
                        let until = Instant::now() + LONG;
                        if let Ok(Received::Waiting(seat)) = desk.receive(&text.to_string(), until) {
                            seats.push(seat);
                        }
                    }
                    Step::Leave(which, late) if !seats.is_empty() => {
                        let mut seat = seats.swap_remove(which % seats.len());
                        seat.late = late;
                    }
                    Step::Take => batches.extend(desk.take(Instant::now())),
                    Step::Settle(which) if !batches.is_empty() => {
                        let batch = batches.swap_remove(which % batches.len());
                        let scores = vec![Scores::default(); batch.keys.len()];
                        desk.settle(&batch, &batch.keys, scores);
                    }
                    Step::GiveUp(which) if !batches.is_empty() => {
                        let at = which % batches.len();
                        let some = batches[at].keys.len().div_ceil(2);
                        desk.give_up(&batches[at], &batches[at].keys[..some], Unavailable::Failed);
                    }
                    Step::Drop(which) if !batches.is_empty() => {
                        batches.swap_remove(which % batches.len());
                    }
                    Step::Fail => desk.learn(&Fault::Server.into()),
                    Step::Recover => desk.probed(&fine()),
                    Step::Pass(millis) => tokio::time::advance(Duration::from_millis(millis)).await,
                    _ => {}
                }
                check(&desk, &batches, &seats);
            }
            drop(batches);
            check(&desk, &[], &seats);
            drop(seats);
            let state = desk.state.lock();
            assert!(state.flights.is_empty() && state.queue.is_empty() && state.queued_tokens == 0);
        });
    }
}
