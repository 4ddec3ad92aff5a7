//! Configuration: one small struct per concern, read from the environment, all errors reported together.
