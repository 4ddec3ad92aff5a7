//! Variables of features that this version does not have. Setting one gives a warning that says so.

use super::variable::{Reader, Variable};

const BROKER: Variable =
    Variable::new("GATEWAY_BROKER_URL", "redis://127.0.0.1:6379/0", "Celery's broker; empty turns task hand-over off")
        .fallback("CELERY_BROKER_URL")
        .url()
        .unused();
pub(super) const VARIABLES: &[Variable] = &[BROKER];

/// What is said about such a variable, here and in the reference.
pub(super) const NOT_USED: &str = "not used by this version";

pub(super) fn warn(reader: &mut Reader<'_>) {
    for variable in VARIABLES {
        if reader.is_set(variable.name) {
            reader.odd(variable.name, format!("is {NOT_USED}: setting it has no effect"));
        }
    }
}
