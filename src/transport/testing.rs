//! What the tests of this and of other modules share: a certificate, and both ends of a TLS connection.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use super::{Certificate, Stream, accept, connect};
use crate::config::Secret;

/// A chain and its key, PEM.
pub(crate) fn pems() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["chat.test".to_owned()]).expect("a certificate");
    (cert.pem(), signing_key.serialize_pem())
}

/// Two ends of one TLS connection over loopback: ours, and the peer's.
pub(crate) async fn streams() -> (Stream, TlsStream<TcpStream>) {
    let (chain, key) = pems();
    let certificate = Certificate::from_pem(&chain, &Secret::new(key)).expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
    let theirs = connect(theirs.expect("connects"), &chain);
    let (ours, theirs) = tokio::join!(accept(ours.expect("accepts").0, &certificate), theirs);
    let (ours, unread) = ours.expect("shakes hands").into_stream();
    assert!(unread.is_empty());
    (ours, theirs.expect("shakes hands"))
}
