//! What the golden samples do not reach: arbitrary bytes, the exact bounds, and that we read what we write.

use std::collections::HashMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// Opcodes that are allowed, so that random programs get further than the first byte.
const OPCODES: &[u8] = b"NKMJGXC}])(suaetqrhj.\x88\x89\x8a\x8c\x85\x86\x87\x94\x95\x00\x01\x02";

fn any_field() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Int(number.into())),
        (-300_i64..300).prop_map(|number| Value::Int(number.into())),
        (-1e300..1e300).prop_map(Value::Float),
        any::<String>().prop_map(|text| Value::Str(text.into())),
    ]
}

fn field(value: &Value) -> Field<'_> {
    match value {
        Value::Bool(flag) => Field::Bool(*flag),
        Value::Int(number) => Field::Int(i64::try_from(*number).unwrap()),
        Value::Float(number) => Field::Float(*number),
        Value::Str(text) => Field::Text(text),
        _ => Field::None,
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = read(&[&[0x80, 2], bytes.as_slice()].concat());
    }

    #[test]
    fn arbitrary_programs_are_read_or_refused(program in vec(prop::sample::select(OPCODES), 0..400)) {
        let _ = read(&[&[0x80, 5], program.as_slice()].concat());
    }

    #[test]
    fn what_is_written_is_read_back(fields in btree_map(any::<String>(), any_field(), 0..20)) {
        let written: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), field(value))).collect();
        let expected: HashMap<_, _> =
            fields.iter().map(|(key, value)| (Key::Str(key.as_str().into()), value.clone())).collect();
        prop_assert_eq!(read(&write_dict(&written)), Ok(Value::Dict(expected)));
    }

    #[test]
    fn a_written_string_is_read_back(text in any::<String>()) {
        prop_assert_eq!(read(&write_text(&text)), Ok(Value::Str(text.into())));
    }

    #[test]
    fn integers_keep_their_value(number in any::<i128>()) {
        let program = [&[0x80, 2, 0x8a, 16], number.to_le_bytes().as_slice(), b"."].concat();
        prop_assert_eq!(read(&program), Ok(Value::Int(number)));
    }
}

/// `depth` lists, one in the other.
fn nested_lists(depth: usize) -> Vec<u8> {
    [vec![0x80, 2], vec![b']'; depth], vec![b'a'; depth - 1], vec![b'.']].concat()
}

#[test]
fn nesting_is_read_up_to_its_bound() {
    let bound = usize::from(MAX_DEPTH);
    assert!(read(&nested_lists(bound)).is_ok());
    assert_eq!(read(&nested_lists(bound + 1)), Err(PickleError::TooDeep));
}

#[test]
fn values_are_read_up_to_their_bound() {
    let flood = |count| [vec![0x80, 2, b']', b'('], vec![b'N'; count], b"e.".to_vec()].concat();
    assert!(read(&flood(MAX_VALUES - 1)).is_ok());
    assert_eq!(read(&flood(MAX_VALUES)), Err(PickleError::TooMany));
}

#[test]
fn pickles_are_read_up_to_their_size() {
    let of_size = |size: usize| write_text(&"x".repeat(size - write_text("").len()));
    assert_eq!(of_size(MAX_BYTES).len(), MAX_BYTES);
    assert!(read(&of_size(MAX_BYTES)).is_ok());
    assert_eq!(read(&of_size(MAX_BYTES + 1)), Err(PickleError::TooLarge));
}

#[test]
fn integers_beyond_128_bits_stay_whole() {
    let long = |digits: &[u8]| {
        let length = u8::try_from(digits.len()).unwrap();
        read(&[&[0x80, 2, 0x8a, length], digits, b"."].concat())
    };
    let mut too_large = [0; 17];
    too_large[15] = 0x80; // 2^127, one more than i128 holds
    assert_eq!(long(&too_large), Ok(Value::BigInt(too_large.as_slice().into())));
    let mut smallest = [0xff; 17];
    smallest[..15].fill(0);
    smallest[15] = 0x80; // -2^127, which it still holds
    assert_eq!(long(&smallest), Ok(Value::Int(i128::MIN)));
    assert_eq!(long(&[0x7f; 32]), Ok(Value::BigInt([0x7f; 32].as_slice().into())));
    assert_eq!(long(&[0x7f; 33]), Err(PickleError::IntTooWide));
    assert_eq!(long(&[]), Ok(Value::Int(0)));
}

#[test]
fn memo_reads_share_strings_but_repeat_no_more_than_a_pickle_may_hold() {
    let text = [b"X", 1024_u32.to_le_bytes().as_slice(), &[b'x'; 1024], b"\x94".as_slice()].concat();
    let repeated = |times: usize| {
        let reads = b"h\x00".repeat(times);
        read(&[b"\x80\x04](", text.as_slice(), &reads, b"e."].concat())
    };
    let Ok(Value::List(items)) = repeated(MAX_BYTES / 1024) else { panic!("a list") };
    assert_eq!(items.len(), 1 + MAX_BYTES / 1024);
    assert_eq!(repeated(MAX_BYTES / 1024 + 1), Err(PickleError::TooMany));
}

#[test]
fn containers_cannot_be_named_twice() {
    assert_eq!(read(b"\x80\x02](]q\x00h\x00e."), Err(PickleError::Memo));
    assert_eq!(read(b"\x80\x02](}q\x00h\x00e."), Err(PickleError::Memo));
    assert_eq!(read(b"\x80\x02](K\x01\x85q\x00h\x00e."), Err(PickleError::Memo));
}

#[test]
fn items_below_an_open_mark_are_out_of_reach() {
    assert_eq!(read(b"\x80\x02](K\x01(ae."), Err(PickleError::Stack));
    assert_eq!(read(b"\x80\x02K\x01(\x85t."), Err(PickleError::Stack));
}
