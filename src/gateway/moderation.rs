//! Moderation as the configuration wants it.

use std::sync::Arc;

use super::BuildError;
use crate::config::{self, RuleAction};
use crate::lifecycle::Lifecycle;
use crate::moderation::openai::{Classifier, Settings};
use crate::moderation::{Action, Levels, Moderator, Most, Policy, Repetition, Rules, Shouting, Thresholds};
use crate::telemetry::Metrics;

/// Builds both layers; says so when the second is off.
///
/// # Errors
/// When the lists are wrong, or the second layer's address or key cannot be used.
pub(super) async fn moderator(
    config: &config::Moderation,
    lifecycle: &Lifecycle,
    metrics: &Arc<Metrics>,
) -> Result<Moderator, BuildError> {
    let policy = policy(config);
    let reading = policy.clone();
    let lists = tokio::task::spawn_blocking(move || Moderator::lists(&reading)).await;
    let lists = lists.map_err(BuildError::internal("reading the moderation lists"))?;
    let lists = lists.map_err(BuildError::configuration("GATEWAY_MODERATION_LISTS"))?;
    let classifier = match config.key.clone() {
        Some(key) => {
            let settings = Settings {
                model: config.model.clone(),
                deadline: config.deadline,
                requests_per_minute: config.requests_per_minute,
                tokens_per_minute: config.tokens_per_minute,
                ..Settings::new(config.base_url.clone(), key)
            };
            let classifier = Classifier::start(settings, lifecycle, Arc::clone(metrics));
            Some(classifier.map_err(BuildError::configuration("OPENAI_API_KEY, OPENAI_BASE_URL"))?)
        }
        None => {
            tracing::warn!(
                "OPENAI_API_KEY is not set: the second layer of moderation is OFF, only word lists and rules judge"
            );
            None
        }
    };
    Ok(Moderator::new(lists, classifier, policy, Arc::clone(metrics)))
}

/// What the configuration says, in moderation's words.
#[must_use]
pub fn policy(config: &config::Moderation) -> Policy {
    let levels = |(flag, block): (f64, f64)| Levels { flag, block };
    let own = config.categories.iter().map(|(name, scores)| (name.clone(), levels(*scores)));
    Policy {
        rules: rules(&config.rules),
        lists: config.lists.clone(),
        thresholds: Thresholds { general: levels(config.general), own: own.collect() },
        on_failure: config.on_failure,
        dms: config.dms,
    }
}

fn rules(config: &config::Rules) -> Rules {
    let most = |rule: config::Rule<1>| Most { action: action(rule.action), most: rule.numbers[0] };
    let ([characters, words, lines], [letters, percent]) = (config.repetition.numbers, config.shouting.numbers);
    Rules {
        repetition: Repetition { action: action(config.repetition.action), characters, words, lines },
        shouting: Shouting { action: action(config.shouting.action), letters, percent },
        mentions: most(config.mentions),
        links: most(config.links),
        duplicates: most(config.duplicate),
        link_of_new: action(config.link_new_user),
        link_denied: action(config.link_denied),
        link_homograph: action(config.link_homograph),
        link_unlisted: action(config.link_unlisted),
    }
}

fn action(action: RuleAction) -> Action {
    match action {
        RuleAction::Off => Action::Off,
        RuleAction::Flag => Action::Flag,
        RuleAction::Refuse => Action::Refuse,
        RuleAction::Block => Action::Block,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_moderation() {
        let least =
            [("DATABASE_URL", "postgres://db/app"), ("SECRET_KEY", "a-key-that-is-long-enough-for-every-purpose")];
        let least: BTreeMap<String, String> =
            least.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (config, _) = config::Config::from(&least).expect("a configuration");
        let policy = policy(&config.moderation);
        assert_eq!(policy.rules, Rules::default());
        assert_eq!(policy.thresholds, Thresholds::default());
    }
}
