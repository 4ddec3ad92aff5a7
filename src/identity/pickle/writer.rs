//! The writer: the least that Django reads back. Protocol 2, no frame, no memo.

const PROTO_2: [u8; 2] = [0x80, 2];

/// A value of a dict that we write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

/// Writes a string.
#[must_use]
pub fn write_text(text: &str) -> Vec<u8> {
    let mut bytes = PROTO_2.to_vec();
    put_text(&mut bytes, text);
    bytes.push(b'.');
    bytes
}

/// Writes a dict with string keys, in the order given. The keys must differ.
#[must_use]
pub fn write_dict(fields: &[(&str, Field<'_>)]) -> Vec<u8> {
    let mut bytes = PROTO_2.to_vec();
    bytes.push(b'}');
    if !fields.is_empty() {
        bytes.push(b'(');
        for (key, field) in fields {
            put_text(&mut bytes, key);
            put_field(&mut bytes, *field);
        }
        bytes.push(b'u');
    }
    bytes.push(b'.');
    bytes
}

fn put_field(bytes: &mut Vec<u8>, field: Field<'_>) {
    match field {
        Field::None => bytes.push(b'N'),
        Field::Bool(true) => bytes.push(0x88),
        Field::Bool(false) => bytes.push(0x89),
        Field::Int(number) => put_int(bytes, number),
        Field::Float(number) => {
            bytes.push(b'G');
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Field::Text(text) => put_text(bytes, text),
    }
}

fn put_int(bytes: &mut Vec<u8>, number: i64) {
    if let Ok(small) = u8::try_from(number) {
        bytes.extend_from_slice(&[b'K', small]);
    } else if let Ok(medium) = i32::try_from(number) {
        bytes.push(b'J');
        bytes.extend_from_slice(&medium.to_le_bytes());
    } else {
        bytes.extend_from_slice(&[0x8a, 8]);
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    match u32::try_from(text.len()) {
        Ok(length) => {
            bytes.push(b'X');
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        // BINUNICODE8, as CPython does above 4 GiB: longer than anything we write, but a cut length would be a lie.
        Err(_) => {
            bytes.push(0x8d);
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        }
    }
    bytes.extend_from_slice(text.as_bytes());
}
