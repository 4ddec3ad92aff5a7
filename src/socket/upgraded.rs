//! The hand-over from hyper: the plain stream and the bytes that came with the request.

use std::sync::Arc;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Outbox, Shared, Socket};

impl Socket {
    /// Takes the connection out of hyper after the upgrade, which lets go of all that hyper kept for it.
    ///
    /// # Errors
    /// Gives `upgraded` back when hyper did not serve it as a `TokioIo<TcpStream>`.
    pub fn from_upgraded(upgraded: Upgraded, shared: &Arc<Shared>) -> Result<(Self, Arc<Outbox>), Upgraded> {
        let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
        Ok(Self::new(parts.io.into_inner(), &parts.read_buf, shared))
    }
}
