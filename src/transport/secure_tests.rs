use std::collections::VecDeque;
use std::future::poll_fn;

use rand::RngExt as _;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::Stream;
use crate::transport::testing::streams;

use super::*;

/// Reads what there is, once there is something.
async fn read(stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        match stream.try_read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            read => return read,
        }
    }
}

#[tokio::test]
async fn what_the_peer_sends_arrives_whole_and_ends_with_its_end() {
    let (ours, mut theirs) = streams().await;
    let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let sending = async {
        theirs.write_all(&sent).await.expect("writes");
        theirs.shutdown().await.expect("ends");
    };
    let reading = async {
        let (mut got, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            match read(&ours, &mut buffer).await.expect("reads") {
                0 => return got,
                count => got.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let ((), got) = tokio::join!(sending, reading);
    assert!(got == sent);
}

#[tokio::test]
async fn what_is_no_tls_ends_the_connection() {
    let (ours, mut theirs) = streams().await;
    theirs.get_mut().0.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
    let mut buffer = vec![0; 64 * 1024];
    assert_eq!(read(&ours, &mut buffer).await.expect_err("an end").kind(), ErrorKind::InvalidData);
    theirs.read(&mut buffer).await.expect_err("the alert says why");
}

/// Messages as an outbox treats them: one that has not begun may be replaced while it waits; one that has begun may not.
/// The peer must see whole messages only, in order, whatever the kernel took when.
#[tokio::test]
async fn a_message_that_is_not_reported_as_begun_has_not_begun() {
    let mut random = SmallRng::seed_from_u64(7);
    let (ours, mut theirs) = streams().await;
    let (mut told, mut queue, mut sent) = (Vec::new(), VecDeque::new(), 0);
    let mut made = 0_u32;
    let mut message = |length: usize| {
        made += 1;
        let length = length.max(6);
        let mut bytes = (length as u32).to_be_bytes().to_vec();
        bytes.resize(length, made as u8);
        bytes
    };
    let writing = async {
        for _ in 0..400 {
            while queue.len() < 20 {
                let length = match random.random_range(0..4) {
                    0 => random.random_range(6..40),
                    1 => RECORD - random.random_range(0..8),
                    _ => random.random_range(6..30_000),
                };
                queue.push_back(message(length));
            }
            let slices: Vec<_> = queue
                .iter()
                .enumerate()
                .map(|(at, bytes): (_, &Vec<u8>)| IoSlice::new(&bytes[if at == 0 { sent } else { 0 }..]))
                .collect();
            match ours.try_write_vectored(&slices) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll_fn(|cx| ours.poll_write_ready(cx)).await.expect("waits");
                }
                Err(error) => panic!("{error}"),
            }
            while queue.front().is_some_and(|first| sent >= first.len()) {
                let first = queue.pop_front().expect("is there");
                sent -= first.len();
                told.push(first);
            }
            // All that has not begun is replaced by something else.
            queue.truncate(usize::from(sent > 0));
        }
        if let Some(begun) = queue.pop_front() {
            while sent < begun.len() {
                match ours.try_write(&begun[sent..]) {
                    Ok(count) => sent += count,
                    Err(_) => poll_fn(|cx| ours.poll_write_ready(cx)).await.expect("waits"),
                }
            }
            told.push(begun);
        }
        ours.shutdown(std::net::Shutdown::Write);
        told
    };
    let reading = async {
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.expect("reads to the end");
        got
    };
    let (told, got) = tokio::join!(writing, reading);
    assert!(told.len() > 100, "{}", told.len());
    assert!(told.concat() == got, "what was written is not what arrived");
}
