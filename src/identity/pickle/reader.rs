//! The reader: a stack machine with a fixed set of opcodes, one loop, no recursion.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Key, MAX_BYTES, MAX_DEPTH, MAX_INT_BYTES, MAX_VALUES, PickleError, Value};

type Result<T> = std::result::Result<T, PickleError>;

/// Reads one pickle of protocol 2 to 5 that holds plain values only.
///
/// # Errors
/// Refuses everything that could name code, and everything that CPython's pickler does not write: a second value, open
/// marks, bytes after the end, shared containers, duplicate keys.
pub fn read(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > MAX_BYTES {
        return Err(PickleError::TooLarge);
    }
    match bytes {
        [0x80, 2..=5, rest @ ..] => Machine::new(rest).run(),
        _ => Err(PickleError::Protocol),
    }
}

/// A value under construction, with the height of the tree below it (a leaf has 0).
struct Slot {
    value: Value,
    height: u8,
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Slot>,
    /// Stack heights at open marks.
    marks: Vec<usize>,
    /// What was memoised, by index. `None` stands for a container, which is never shared by what we read: that alone
    /// rules out bombs, cycles and aliases.
    memo: HashMap<u32, Option<Value>>,
    made: usize,
    memoised: usize,
    /// Bytes of strings that memo reads may still repeat.
    repeat_budget: usize,
}

impl<'a> Machine<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            made: 0,
            memoised: 0,
            repeat_budget: MAX_BYTES,
        }
    }

    fn run(mut self) -> Result<Value> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.stop(),
                0x95 => self.frame()?,
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => {
                    let number = self.byte()?;
                    self.push(Value::Int(number.into()))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                0x8a => self.long()?,
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(number))?;
                }
                0x8c => {
                    let length = self.byte()?.into();
                    self.text(length)?;
                }
                b'X' => {
                    let length = self.length()?;
                    self.text(length)?;
                }
                b'C' => {
                    let length = self.byte()?.into();
                    self.bytes(length)?;
                }
                b'B' => {
                    let length = self.length()?;
                    self.bytes(length)?;
                }
                b'}' => self.push(Value::Dict(HashMap::new()))?,
                b']' => self.push(Value::List(Vec::new()))?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b'(' => self.mark()?,
                b's' => self.set_items(2)?,
                b'u' => {
                    let count = self.close_mark()?;
                    self.set_items(count)?;
                }
                b'a' => self.append(1)?,
                b'e' => {
                    let count = self.close_mark()?;
                    self.append(count)?;
                }
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let count = self.close_mark()?;
                    self.tuple(count)?;
                }
                0x94 => {
                    let index = u32::try_from(self.memo.len()).map_err(|_| PickleError::Memo)?;
                    self.memoise(index)?;
                }
                b'q' => {
                    let index = self.byte()?.into();
                    self.memoise(index)?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.memoise(index)?;
                }
                b'h' => {
                    let index = self.byte()?.into();
                    self.recall(index)?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.recall(index)?;
                }
                other => return Err(PickleError::Opcode(other)),
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PickleError::Truncated)
    }

    /// A frame says how many bytes follow at least. It is a check only: long strings stand outside of any frame.
    fn frame(&mut self) -> Result<()> {
        let length = u64::from_le_bytes(self.array()?);
        if usize::try_from(length).is_ok_and(|length| length <= self.rest.len()) {
            Ok(())
        } else {
            Err(PickleError::Truncated)
        }
    }

    fn long(&mut self) -> Result<()> {
        let length = usize::from(self.byte()?);
        let digits = self.take(length)?;
        if length > MAX_INT_BYTES {
            return Err(PickleError::IntTooWide);
        }
        self.push(integer(digits))
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| PickleError::Utf8)?;
        self.push(Value::Str(Arc::from(text)))
    }

    fn bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        self.push(Value::Bytes(Arc::from(bytes)))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.push_slot(Slot { value, height: 0 })
    }

    fn push_slot(&mut self, slot: Slot) -> Result<()> {
        self.made += 1;
        if self.made > MAX_VALUES {
            return Err(PickleError::TooMany);
        }
        self.stack.push(slot);
        Ok(())
    }

    /// An open mark is a container whose items are coming, so marks are bounded like depth.
    fn mark(&mut self) -> Result<()> {
        if self.marks.len() > usize::from(MAX_DEPTH) {
            return Err(PickleError::TooDeep);
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Closes the newest mark and says how many values stand above it.
    fn close_mark(&mut self) -> Result<usize> {
        let mark = self.marks.pop().ok_or(PickleError::Stack)?;
        self.stack.len().checked_sub(mark).ok_or(PickleError::Stack)
    }

    /// Where the top `count` values begin. Values below the newest mark are out of reach.
    fn split(&self, count: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.len().checked_sub(count).filter(|&start| start >= floor).ok_or(PickleError::Stack)
    }

    /// Takes the top `count` values and the container below them, with the container's new height.
    fn take_items(&mut self, count: usize) -> Result<(Vec<Slot>, &mut Slot)> {
        self.split(count + 1)?;
        let start = self.split(count)?;
        let items = self.stack.split_off(start);
        let height = height_above(&items)?;
        let container = self.stack.last_mut().ok_or(PickleError::Stack)?;
        container.height = container.height.max(height);
        Ok((items, container))
    }

    fn set_items(&mut self, count: usize) -> Result<()> {
        if !count.is_multiple_of(2) {
            return Err(PickleError::Stack);
        }
        let (items, container) = self.take_items(count)?;
        let Value::Dict(entries) = &mut container.value else { return Err(PickleError::Stack) };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let key = match key.value {
                Value::Int(number) => Key::Int(number),
                Value::Str(text) => Key::Str(text),
                _ => return Err(PickleError::Key),
            };
            if entries.insert(key, value.value).is_some() {
                return Err(PickleError::Key);
            }
        }
        Ok(())
    }

    fn append(&mut self, count: usize) -> Result<()> {
        let (items, container) = self.take_items(count)?;
        let Value::List(list) = &mut container.value else { return Err(PickleError::Stack) };
        list.extend(items.into_iter().map(|slot| slot.value));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let start = self.split(count)?;
        let items = self.stack.split_off(start);
        let height = height_above(&items)?;
        let value = Value::Tuple(items.into_iter().map(|slot| slot.value).collect());
        self.push_slot(Slot { value, height })
    }

    fn memoise(&mut self, index: u32) -> Result<()> {
        // A pickler numbers what it memoises from 0 on and memoises each value once.
        self.memoised += 1;
        if self.memoised > self.made || usize::try_from(index).is_ok_and(|index| index > self.memo.len()) {
            return Err(PickleError::Memo);
        }
        let start = self.split(1)?;
        let value = match &self.stack.get(start).ok_or(PickleError::Stack)?.value {
            Value::List(_) | Value::Tuple(_) | Value::Dict(_) => None,
            leaf => Some(leaf.clone()),
        };
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).cloned().flatten().ok_or(PickleError::Memo)?;
        let length = match &value {
            Value::Str(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        // Our strings are shared, but whoever copies or prints the value must not meet a bomb either.
        self.repeat_budget = self.repeat_budget.checked_sub(length).ok_or(PickleError::TooMany)?;
        self.push(value)
    }

    fn stop(mut self) -> Result<Value> {
        if !self.rest.is_empty() {
            return Err(PickleError::Trailing);
        }
        match self.stack.pop() {
            Some(slot) if self.stack.is_empty() && self.marks.is_empty() => Ok(slot.value),
            _ => Err(PickleError::Stack),
        }
    }
}

/// The height of a container that holds these.
fn height_above(items: &[Slot]) -> Result<u8> {
    let height = items.iter().map(|slot| slot.height + 1).max().unwrap_or(0);
    if height >= MAX_DEPTH { Err(PickleError::TooDeep) } else { Ok(height) }
}

/// Two's complement, little endian, at most [`MAX_INT_BYTES`]; no bytes are 0.
fn integer(digits: &[u8]) -> Value {
    let sign: u8 = if digits.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; MAX_INT_BYTES];
    for (to, from) in wide.iter_mut().zip(digits) {
        *to = *from;
    }
    let (low, high) = wide.split_at(16);
    let mut narrow = [0; 16];
    narrow.copy_from_slice(low);
    let number = i128::from_le_bytes(narrow);
    let fits = high.iter().all(|&byte| byte == sign) && (number < 0) == (sign == 0xff);
    if fits { Value::Int(number) } else { Value::BigInt(Arc::from(digits)) }
}
