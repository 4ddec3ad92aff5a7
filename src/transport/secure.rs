//! TLS records while a socket is open: what is read is decrypted into the caller's buffer, what is written is encrypted
//! one record at a time, the next when the kernel has the one before.
//!
//! Never waits. What it holds of what is written is at most one record, so that whoever writes feels a slow reader as
//! without TLS.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use parking_lot::Mutex;
use rustls::ServerConnection;
use tokio::net::TcpStream;

/// The most that one record holds, in bytes (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// Buffers that go into one record at most.
const SLICES: usize = 64;

/// A TLS connection whose handshake is done.
pub struct Secure {
    tcp: TcpStream,
    state: Mutex<State>,
}

struct State {
    tls: ServerConnection,
    /// The last byte of the record that the kernel does not have whole. It was encrypted and not yet reported as
    /// written, so that to everybody above the message that it ends is one that is half-written: it keeps its place,
    /// nothing takes its place, and the connection's task waits until the kernel takes the rest.
    withheld: bool,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl Secure {
    pub(super) fn new(tcp: TcpStream, tls: ServerConnection) -> Self {
        Self { tcp, state: Mutex::new(State { tls, withheld: false }) }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let read = state.read(&self.tcp, buffer);
        // An alert, or an answer to new keys. What does not fit leaves with the next write.
        if state.tls.wants_write() {
            let _ = state.flush(&self.tcp);
        }
        read
    }

    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.state.lock().write(&self.tcp, slices)
    }

    /// Says that nothing more will come, as far as the kernel takes it now.
    pub(super) fn say_goodbye(&self) {
        let mut state = self.state.lock();
        state.tls.send_close_notify();
        let _ = state.flush(&self.tcp);
    }
}

impl State {
    fn read(&mut self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut Kernel(tcp))?;
        self.tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.tls.reader().read(&mut buffer[filled..]) {
                // The peer said that it ends.
                Ok(0) => return Ok(filled),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It ended without a word. WebSocket says its own goodbye, so that nothing can have been cut off in silence.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
        match (filled, count) {
            (0, 0) => Ok(0),
            // A part of a record, or none of the application's: the caller looks at the readiness again, so that a
            // peer that sends nothing else does not keep the thread.
            (0, _) => Err(ErrorKind::Interrupted.into()),
            _ => Ok(filled),
        }
    }

    fn write(&mut self, tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            if !self.flush(tcp)? {
                return if taken > 0 { Ok(taken) } else { Err(ErrorKind::WouldBlock.into()) };
            }
            taken += usize::from(std::mem::take(&mut self.withheld));
            let sealed = self.seal(slices, taken)?;
            if sealed == 0 {
                return Ok(taken);
            }
            taken += sealed - 1;
            self.withheld = true;
        }
    }

    /// Encrypts the next record of what comes after the first `skip` bytes. Returns how many bytes it holds.
    fn seal(&mut self, slices: &[IoSlice<'_>], mut skip: usize) -> io::Result<usize> {
        let (mut parts, mut count, mut room) = ([IoSlice::new(&[]); SLICES], 0, RECORD);
        for slice in slices {
            let Some(rest) = slice.get(skip..).filter(|rest| !rest.is_empty()) else {
                skip -= slice.len();
                continue;
            };
            let part = &rest[..rest.len().min(room)];
            // The first byte of a message alone would be encrypted and withheld: to those above it had not begun.
            let is_first_byte_alone = part.len() == 1 && rest.len() == slice.len() && rest.len() > 1;
            if count == SLICES || part.is_empty() || is_first_byte_alone {
                break;
            }
            parts[count] = IoSlice::new(part);
            (count, room, skip) = (count + 1, room - part.len(), 0);
        }
        if count == 0 {
            return Ok(0);
        }
        match self.tls.writer().write_vectored(&parts[..count])? {
            // The keys are used up, or the connection has said goodbye: it can say nothing more.
            0 => Err(ErrorKind::WriteZero.into()),
            sealed => Ok(sealed),
        }
    }

    /// Gives the kernel what is encrypted. Returns whether it took all of it.
    fn flush(&mut self, tcp: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Kernel(tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The connection as the TLS library wants it: every call tries once.
struct Kernel<'a>(&'a TcpStream);

impl Read for Kernel<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Kernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "secure_tests.rs"]
mod tests;
