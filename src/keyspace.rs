//! Every Redis key and channel name.
