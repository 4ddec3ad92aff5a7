//! Listeners, the upgrade, ops routes.
