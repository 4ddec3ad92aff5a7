//! Where a client was, when it comes back: in the query of its socket's address, or in a frame.

use simd_json::prelude::*;

use super::Fields;
use crate::wire::event::Place;
use crate::wire::{Code, Refusal};

impl Fields<'_, '_> {
    /// `epoch` and `offset`, both or neither. The epoch is a text as events have it; a number is taken too.
    pub(super) fn since(&self) -> Result<Option<Place>, Refusal> {
        let wrong = || Refusal::new(Code::InvalidFrame);
        match (self.present("epoch"), self.present("offset")) {
            (None, None) => Ok(None),
            (Some(epoch), Some(offset)) => {
                let epoch = match epoch.as_str() {
                    Some(text) => text.parse().map_err(|_| wrong())?,
                    None => epoch.as_u64().ok_or_else(wrong)?,
                };
                Ok(Some(Place { epoch, offset: offset.as_u64().ok_or_else(wrong)? }))
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ThreadId;
    use crate::wire::ClientCommand;
    use crate::wire::command::ThreadCommand;

    fn decode(text: &str) -> Result<ClientCommand, Refusal> {
        ClientCommand::decode(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn a_place_is_both_numbers() {
        let place = Place { epoch: 9_007_199_254_740_991, offset: 7 };
        for text in [
            r#"{"type":"resume","epoch":"9007199254740991","offset":7}"#,
            r#"{"type":"resume","epoch":9007199254740991,"offset":7}"#,
        ] {
            assert_eq!(decode(text), Ok(ClientCommand::Resume(place)), "{text}");
        }
        for text in [
            r#"{"type":"resume"}"#,
            r#"{"type":"resume","epoch":"1"}"#,
            r#"{"type":"resume","offset":1}"#,
            r#"{"type":"resume","epoch":"x","offset":1}"#,
            r#"{"type":"resume","epoch":"1","offset":-1}"#,
            r#"{"type":"resume","epoch":"1","offset":"1"}"#,
            r#"{"type":"resume","epoch":[],"offset":1}"#,
        ] {
            assert_eq!(decode(text).map_err(|refusal| refusal.code), Err(Code::InvalidFrame), "{text}");
        }
    }

    #[test]
    fn a_thread_is_opened_afresh_or_from_a_place() {
        let id = "0190a0a0-0000-7000-8000-000000000001";
        let thread = ThreadId(id.parse().expect("an id"));
        assert_eq!(
            decode(&format!(r#"{{"type":"open_thread","thread_id":"{id}"}}"#)),
            Ok(ClientCommand::Thread(ThreadCommand::Open(thread, None)))
        );
        assert_eq!(
            decode(&format!(r#"{{"type":"open_thread","thread_id":"{id}","epoch":"5","offset":2}}"#)),
            Ok(ClientCommand::Thread(ThreadCommand::Open(thread, Some(Place { epoch: 5, offset: 2 }))))
        );
    }
}
