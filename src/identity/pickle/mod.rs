//! Python pickles, as far as plain values need them: what Django keeps in its cache.
//!
//! Owns the reader (an allow-list of opcodes; a pickle is a program, and ours runs none of it) and a small writer. It
//! must never look a name up, call anything, or trust a length, and refuses whatever real picklers do not write.

mod reader;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

pub use reader::read;
pub use writer::{Field, write_dict, write_text};

/// The largest pickle that is looked at, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most values one pickle may make, memo reads included.
pub const MAX_VALUES: usize = 100_000;
/// The deepest nesting. Bounded while the value is built, so dropping or walking one needs at most as many frames.
pub const MAX_DEPTH: u8 = 64;
/// The widest integer, in bytes of two's complement.
pub const MAX_INT_BYTES: usize = 32;

/// A plain Python value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i128),
    /// An integer beyond `i128`, whole: two's complement, little endian, at most [`MAX_INT_BYTES`].
    BigInt(Arc<[u8]>),
    Float(f64),
    Str(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(HashMap<Key, Value>),
}

impl Value {
    /// Looks a string key up; `None` when this is no dict or has no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Dict(entries) => entries.get(&Key::Str(Arc::from(key))),
            _ => None,
        }
    }
}

/// A key of a dict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Int(i128),
    Str(Arc<str>),
}

/// Why bytes are not a pickle that we read. Carries no part of the bytes: they may be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    #[error("the pickle does not begin with protocol 2 to 5")]
    Protocol,
    #[error("the pickle is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the pickle ends too early, or names a length it does not have")]
    Truncated,
    #[error("the pickle uses opcode {0:#04x}, which plain values do not need")]
    Opcode(u8),
    #[error("the pickle's stack does not fit its opcodes")]
    Stack,
    #[error("the pickle holds a string that is not UTF-8")]
    Utf8,
    #[error("the pickle holds an integer of more than {MAX_INT_BYTES} bytes")]
    IntTooWide,
    #[error("the pickle has a key that is neither string nor integer, or one key twice")]
    Key,
    #[error("the pickle's memo is used as no pickler uses it")]
    Memo,
    #[error("the pickle has too many values")]
    TooMany,
    #[error("the pickle nests deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("bytes follow the end of the pickle")]
    Trailing,
}

#[cfg(test)]
mod tests;
