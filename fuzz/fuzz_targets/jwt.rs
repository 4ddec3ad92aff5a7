//! Access tokens that nobody signed with our key: none is taken, whatever its header says.

#![no_main]

use std::sync::LazyLock;

use community_gateway::domain::Micros;
use community_gateway::identity::Verifier;
use libfuzzer_sys::fuzz_target;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new("a secret that no seed was signed with"));

fuzz_target!(|text: &str| {
    assert!(VERIFIER.verify(text, Micros(1_795_000_000_000_000)).is_err());
});
