//! The second layer of moderation while the API works: who shares what, and what waits for what.

use std::time::Duration;

use community_gateway::config::Secret;
use community_gateway::lifecycle::Lifecycle;
use community_gateway::moderation::openai::{Classifier, Settings, StartError, Unavailable};
use community_gateway::telemetry::Metrics;

use crate::openai_stage::Stage;
use crate::support::{Act, FakeOpenAi};

#[tokio::test]
async fn a_text_gets_its_scores() {
    let stage = Stage::start(|_| {}).await;
    stage.api.score("idiot", "harassment", 0.45);
    let scores = stage.classifier.scores("you idiot").await.unwrap();
    assert_eq!((scores.of("harassment"), scores.of("violence"), scores.flagged), (0.45, 1e-5, false));
    let request = &stage.api.requests()[0];
    assert_eq!((request.path.as_str(), &request.model), ("/v1/moderations", &"omni-moderation-latest".into()));
    assert_eq!(request.inputs, ["you idiot"]);
    assert!(stage.classifier.scores("").await.unwrap().categories.is_empty(), "nothing is asked about nothing");
    assert_eq!(stage.requests("ok"), 1);
}

#[tokio::test]
async fn overlapping_texts_share_a_request_and_each_gets_its_own_scores() {
    let stage = Stage::start(|settings| settings.concurrency = 1).await;
    for (mark, score) in [("zero", 0.0), ("one", 0.1), ("two", 0.2), ("three", 0.3)] {
        stage.api.score(mark, "hate", score);
    }
    let held = stage.api.hold("first");
    let first = stage.ask(&["first"]);
    stage.api.received(1).await;
    let rest = stage.ask(&["zero", "one", "two", "three"]);
    stage.queued(4).await;
    drop(held);
    for (asking, score) in rest.into_iter().zip([0.0, 0.1, 0.2, 0.3]) {
        assert_eq!(asking.answer().await.unwrap().of("hate"), score);
    }
    for asking in first {
        asking.answer().await.unwrap();
    }
    let requests = stage.api.requests();
    assert_eq!(requests[1].inputs, ["zero", "one", "two", "three"], "nobody waited for a timer, all went together");
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn a_request_holds_no_more_texts_than_set() {
    let stage = Stage::start(|settings| (settings.concurrency, settings.batch) = (1, 2)).await;
    let held = stage.api.hold("first");
    let mut asking = stage.ask(&["first"]);
    stage.api.received(1).await;
    asking.extend(stage.ask(&["a", "b", "c", "d", "e"]));
    stage.queued(5).await;
    drop(held);
    for asking in asking {
        asking.answer().await.unwrap();
    }
    let sizes: Vec<_> = stage.api.requests().iter().map(|request| request.inputs.len()).collect();
    assert_eq!(sizes, [1, 2, 2, 1]);
}

#[tokio::test]
async fn long_texts_do_not_make_a_request_that_is_too_long() {
    let stage = Stage::start(|settings| settings.concurrency = 1).await;
    let held = stage.api.hold("first");
    let mut asking = stage.ask(&["first"]);
    stage.api.received(1).await;
    let long: Vec<String> = (0..4).map(|n| n.to_string().repeat(16_000)).collect();
    asking.extend(stage.ask(&long.iter().map(String::as_str).collect::<Vec<_>>()));
    stage.queued(4).await;
    drop(held);
    for asking in asking {
        asking.answer().await.unwrap();
    }
    let sizes: Vec<_> = stage.api.requests().iter().map(|request| request.inputs.len()).collect();
    assert_eq!(sizes, [1, 2, 2]);
}

#[tokio::test]
async fn equal_texts_in_flight_are_asked_once() {
    let stage = Stage::start(|_| {}).await;
    stage.api.score("same", "hate", 0.9);
    let held = stage.api.hold("same");
    let asking = stage.ask(&["same", "same", "same"]);
    stage.api.received(1).await;
    let late = stage.ask(&["same"]);
    crate::support::eventually("all share one", || async { stage.texts("shared") == 3 }).await;
    drop(held);
    for asking in asking.into_iter().chain(late) {
        assert_eq!(asking.answer().await.unwrap().of("hate"), 0.9);
    }
    assert_eq!(stage.api.inputs(), ["same"]);
}

#[tokio::test]
async fn answers_are_kept_for_equal_texts_and_failures_are_not() {
    let stage = Stage::start(|_| {}).await;
    stage.api.next(Act::results(0));
    assert_eq!(stage.classifier.scores("hello").await.unwrap_err(), Unavailable::Malformed);
    for _ in 0..3 {
        stage.classifier.scores("hello").await.unwrap();
    }
    assert_eq!(stage.api.inputs(), ["hello", "hello"]);
    assert_eq!((stage.texts("asked"), stage.texts("cache")), (2, 2));
}

#[tokio::test]
async fn answers_are_not_kept_for_longer_than_set() {
    let stage = Stage::start(|settings| settings.cache_life = Duration::ZERO).await;
    for _ in 0..2 {
        stage.classifier.scores("hello").await.unwrap();
    }
    assert_eq!(stage.api.inputs(), ["hello", "hello"]);
}

#[tokio::test]
async fn answers_that_come_in_another_order_reach_their_texts() {
    let stage = Stage::start(|settings| settings.concurrency = 2).await;
    stage.api.score("slow", "hate", 0.8);
    let held = stage.api.hold("slow");
    let slow = stage.ask(&["slow"]).remove(0);
    stage.api.received(1).await;
    assert_eq!(stage.classifier.scores("fast").await.unwrap().of("hate"), 1e-5, "the slow one delays nobody");
    drop(held);
    assert_eq!(slow.answer().await.unwrap().of("hate"), 0.8);
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_set() {
    let stage = Stage::start(|settings| (settings.concurrency, settings.batch) = (2, 1)).await;
    let held = stage.api.hold("text");
    let asking = stage.ask(&["text 1", "text 2", "text 3", "text 4", "text 5"]);
    stage.api.received(2).await;
    stage.queued(3).await;
    assert_eq!(stage.api.requests().len(), 2);
    drop(held);
    for asking in asking {
        asking.answer().await.unwrap();
    }
    assert_eq!(stage.requests("ok"), 5);
}

#[tokio::test]
async fn who_goes_away_takes_a_queued_text_along() {
    let stage = Stage::start(|settings| settings.concurrency = 1).await;
    let held = stage.api.hold("first");
    let first = stage.ask(&["first"]).remove(0);
    stage.api.received(1).await;
    let (gone, other) = (stage.ask(&["private", "shared"]), stage.ask(&["shared"]));
    stage.queued(2).await;
    crate::support::eventually("two share one", || async { stage.texts("shared") == 1 }).await;
    drop(gone);
    stage.queued(1).await;
    drop(held);
    first.answer().await.unwrap();
    for other in other {
        other.answer().await.unwrap();
    }
    assert_eq!(stage.api.inputs(), ["first", "shared"], "what somebody else waits for is asked all the same");
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_given_up() {
    let stage = Stage::start(|settings| settings.concurrency = 1).await;
    let _held = stage.api.hold("private");
    let gone = stage.ask(&["private"]);
    stage.api.received(1).await;
    drop(gone);
    stage.api.abandoned(1).await;
    stage.classifier.scores("next").await.unwrap();
    assert_eq!((stage.requests("abandoned"), stage.metrics.openai_breaker.get()), (1, 0));
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let stage = Stage::start(|settings| (settings.concurrency, settings.queue) = (1, 2)).await;
    let held = stage.api.hold("first");
    let mut asking = stage.ask(&["first"]);
    stage.api.received(1).await;
    asking.extend(stage.ask(&["a", "b"]));
    stage.queued(2).await;
    assert_eq!(stage.classifier.scores("c").await.unwrap_err(), Unavailable::Busy);
    drop(held);
    for asking in asking {
        asking.answer().await.unwrap();
    }
    assert_eq!(stage.unavailable(Unavailable::Busy), 1);
}

#[tokio::test]
async fn what_the_budget_cannot_serve_in_time_is_said_at_once() {
    let change = |settings: &mut Settings| {
        (settings.tokens_per_minute, settings.deadline) = (100, Duration::from_secs(5));
    };
    let stage = Stage::start(change).await;
    stage.classifier.scores(&"a".repeat(240)).await.unwrap(); // about 80 tokens
    assert_eq!(stage.classifier.scores(&"b".repeat(240)).await.unwrap_err(), Unavailable::Budget);
    stage.classifier.scores("short").await.unwrap();
    assert_eq!(stage.api.requests().len(), 2);
}

#[tokio::test]
async fn limits_are_learned_from_headers() {
    let change = |settings: &mut Settings| {
        (settings.requests_per_minute, settings.deadline) = (1, Duration::from_secs(10));
    };
    let stage = Stage::start(change).await;
    // More than assumed: otherwise the second would have to wait for a minute.
    stage.api.next(Act::judge().header("x-ratelimit-limit-requests", "6000"));
    stage.classifier.scores("one").await.unwrap();
    // Nearly nothing left of the tokens, which come back at ten a second.
    stage.api.next(Act::judge().header("x-ratelimit-limit-tokens", "600").header("x-ratelimit-remaining-tokens", "0"));
    stage.classifier.scores("two").await.unwrap();
    assert_eq!(stage.classifier.scores(&"three".repeat(100)).await.unwrap_err(), Unavailable::Budget);
    stage.classifier.scores("four").await.unwrap();
    assert_eq!(stage.api.inputs(), ["one", "two", "four"]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let start = |url: &str, key: &str| {
        let settings = Settings::new(url, Secret::new(key));
        Classifier::start(settings, &Lifecycle::new(), Metrics::new().unwrap().into()).err()
    };
    assert_eq!(start("api.openai.com", "k"), Some(StartError::BaseUrl));
    assert_eq!(start("https://api.openai.com/v1", "k\ney"), Some(StartError::Key));
    assert_eq!(start("https://api.openai.com/v1/", FakeOpenAi::KEY), None);
}
