//! Tasks, shutdown tokens and signals.
