//! The `community-gateway` program.

fn main() {}
