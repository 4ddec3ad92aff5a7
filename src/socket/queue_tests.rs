use proptest::prelude::*;

use super::*;

const CAP: usize = 300;

/// The same queue, told as lanes instead of places: what it must do, without its bookkeeping.
#[derive(Default)]
struct Lanes {
    /// The rest of a half-written frame.
    half: Vec<u8>,
    control: Vec<Frame>,
    due: Vec<(Frame, Class)>,
}

impl Lanes {
    /// What may be written, in order.
    fn stream(&self) -> Vec<u8> {
        let due = self.due.iter().map(|(frame, _)| frame);
        self.control.iter().chain(due).fold(self.half.clone(), |mut stream, frame| {
            stream.extend_from_slice(frame.as_bytes());
            stream
        })
    }

    fn bytes(&self) -> usize {
        self.stream().len()
    }

    /// Bytes that wait behind the frame that is being written, or is the next to be.
    fn behind(&self) -> usize {
        let next = self.control.first().or(self.due.first().map(|(frame, _)| frame)).map_or(0, Frame::len);
        self.bytes() - if self.half.is_empty() { next } else { self.half.len() }
    }

    fn add(&mut self, frame: &Frame, class: Class) -> Added {
        let behind = self.behind();
        let is_alone = self.half.is_empty() && self.control.is_empty();
        if class == Class::Control {
            let same = self.control.iter_mut().find(|other| other.as_bytes()[0] == frame.as_bytes()[0]);
            if let Some(same) = same {
                *same = frame.clone();
                return Added::Coalesced;
            }
            self.control.push(frame.clone());
            return Added::Queued;
        }
        if let Class::Latest(_) = class
            && let Some(at) = self.due.iter().rposition(|(_, other)| *other == class)
        {
            let same = &mut self.due[at].0;
            if frame.len() > same.len() && !(is_alone && at == 0) && behind - same.len() >= CAP {
                return Added::Full;
            }
            *same = frame.clone();
            return Added::Coalesced;
        }
        if behind >= CAP {
            return Added::Full;
        }
        self.due.push((frame.clone(), class));
        Added::Queued
    }

    fn write(&mut self, mut count: usize) {
        loop {
            let rest = count.min(self.half.len());
            self.half.drain(..rest);
            count -= rest;
            if count == 0 {
                return;
            }
            let next = if self.control.is_empty() { self.due.remove(0).0 } else { self.control.remove(0) };
            self.half = next.as_bytes().to_vec();
        }
    }

    fn cut(&mut self) {
        *self = Self { half: std::mem::take(&mut self.half), ..Self::default() };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Class, usize),
    Write(usize),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![
        3 => Just(Class::Message),
        3 => (0..3_u64).prop_map(Class::Latest),
        1 => Just(Class::Control),
    ];
    prop_oneof![
        10 => (class, 0..100_usize).prop_map(|(class, len)| Step::Add(class, len)),
        6 => (1..200_usize).prop_map(Step::Write),
        1 => Just(Step::Cut),
    ]
}

/// A frame that no other equals.
fn numbered(number: usize, len: usize, class: Class) -> Frame {
    let payload = format!("{number}:{}", "x".repeat(len));
    match class {
        Class::Control if number.is_multiple_of(2) => Frame::pong(payload.as_bytes()),
        Class::Control => Frame::ping(),
        _ => Frame::text(payload.as_bytes()),
    }
}

fn stream(queue: &Queue) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); 1_000];
    let count = queue.slices(&mut slices);
    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_bound_and_coalescing_are_as_told(steps in prop::collection::vec(step(), 0..80)) {
        let (mut queue, mut lanes) = (Queue::default(), Lanes::default());
        let mut largest = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add(class, len) => {
                    let frame = numbered(number, len, class);
                    let added = queue.add(&frame, 0, class, CAP);
                    prop_assert_eq!(added, lanes.add(&frame, class));
                    if class != Class::Control {
                        largest = largest.max(frame.len());
                        // Two control frames of at most 127 bytes take no part in the bound.
                        prop_assert!(added == Added::Full || queue.bytes() < CAP + 2 * largest + 2 * 127);
                    }
                }
                Step::Write(count) => {
                    let count = count.min(stream(&queue).len());
                    queue.wrote(count);
                    lanes.write(count);
                }
                Step::Cut => {
                    queue.cut();
                    lanes.cut();
                }
            }
            prop_assert_eq!(stream(&queue), lanes.stream());
            prop_assert_eq!(queue.bytes(), lanes.bytes());
            prop_assert_eq!(queue.is_empty(), lanes.stream().is_empty());
            prop_assert!(!queue.is_empty() || queue.frames.capacity() == 0, "an empty queue holds no memory");
        }
    }
}

#[test]
fn a_half_written_frame_is_neither_replaced_nor_overtaken() {
    let mut queue = Queue::default();
    let typing = Frame::text(b"typing 1");
    queue.add(&typing, 3, Class::Latest(7), CAP);
    assert_eq!(queue.add(&Frame::text(b"typing 2"), 0, Class::Latest(7), CAP), Added::Queued);
    assert_eq!(queue.add(&Frame::text(b"typing 3"), 0, Class::Latest(7), CAP), Added::Coalesced);
    queue.add(&Frame::pong(b"p"), 0, Class::Control, CAP);
    let expected =
        [&typing.as_bytes()[3..], Frame::pong(b"p").as_bytes(), Frame::text(b"typing 3").as_bytes()].concat();
    assert_eq!(stream(&queue), expected);
}

#[test]
fn what_comes_behind_a_first_frame_larger_than_the_cap_still_has_room() {
    let mut queue = Queue::default();
    assert_eq!(queue.add(&Frame::text(&[b's'; 2 * CAP]), 5, Class::Message, CAP), Added::Queued);
    assert_eq!(queue.add(&Frame::text(&[b'x'; CAP]), 0, Class::Message, CAP), Added::Queued);
    assert_eq!(queue.add(&Frame::text(b"y"), 0, Class::Message, CAP), Added::Full);
    assert_eq!(queue.bytes(), 2 * CAP + 4 - 5 + CAP + 4, "what did not fit changed nothing");
    queue.wrote(2 * CAP + 4 - 5);
    assert_eq!(queue.add(&Frame::text(b"y"), 0, Class::Message, CAP), Added::Queued);
}
