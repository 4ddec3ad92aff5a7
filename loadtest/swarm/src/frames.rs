//! As much of WebSocket as a client needs that trusts its server: the upgrade, frames out, frames in.

use std::io;

use tokio::net::TcpStream;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Ping,
    Pong,
    Close,
    Other,
}

/// How the server answered the upgrade.
pub enum Upgrade {
    /// Upgraded; what came with the answer.
    Done(Vec<u8>),
    /// The status, and the seconds of `Retry-After`.
    Refused(u16, Option<u64>),
}

/// A masked frame. The mask is zero, which is a legal mask and costs nothing; the server unmasks all the same.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Takes the first whole frame of `bytes`: what it is, where its payload lies, and how long it is in all.
pub fn parse(bytes: &[u8]) -> Option<(Kind, std::ops::Range<usize>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (length, head) = match second & 0x7F {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        short => (u64::from(short), 2),
    };
    let end = head + usize::try_from(length).ok()?;
    let kind = match first & 0x0F {
        1 => Kind::Text,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => Kind::Other,
    };
    (bytes.len() >= end).then_some((kind, head..end, end))
}

/// Upgrades a connection. A browser is known to a proxy by a cookie, which is what a canary's share goes by.
pub async fn upgrade(stream: &TcpStream, host: &str, path: &str, browser: u64) -> io::Result<Upgrade> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Cookie: canary={browser:016x}\r\nSec-WebSocket-Key: c3dhcm0gc3dhcm0gc3dhcg==\r\n\r\n"
    );
    write_all(stream, request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        stream.readable().await?;
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            if status == 101 {
                return Ok(Upgrade::Done(answer.split_off(end + 4)));
            }
            let after = head.lines().find_map(|line| line.strip_prefix("retry-after:")?.trim().parse().ok());
            return Ok(Upgrade::Refused(status, after));
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_whole() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let mut bytes = frame(1, &vec![b'x'; length]);
            // A server does not mask: take the bit and the four bytes away.
            bytes[1] &= 0x7F;
            let head = bytes.len() - length;
            bytes.drain(head - 4..head);
            assert_eq!(parse(&bytes), Some((Kind::Text, head - 4..bytes.len(), bytes.len())), "{length}");
            assert_eq!(parse(&bytes[..bytes.len() - 1]), None, "{length}");
        }
        assert_eq!(parse(&[0x89]), None);
        assert_eq!(parse(&[0x89, 0]), Some((Kind::Ping, 2..2, 2)));
    }
}
