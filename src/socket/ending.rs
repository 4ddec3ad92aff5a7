//! How a connection ended, for the summary line and the metrics.

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The peer sent the first close frame.
    Peer,
    /// We decided to close.
    Us,
    /// Nobody: the connection broke, or the peer left without a close frame.
    Lost,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The close code; 1005 when the peer's close frame had none, 1006 without a close frame (RFC 6455, 7.4.1).
    pub code: u16,
    /// Our reason; empty when it was not us.
    pub reason: &'static str,
    /// Whose decision it was.
    pub by: By,
}

impl Ending {
    pub(super) const NO_CODE: u16 = 1005;
    pub(super) const LOST: Self = Self { code: 1006, reason: "", by: By::Lost };
}
