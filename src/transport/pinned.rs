//! A client of ours: it asks a listener whether it shows the certificate that its files hold.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError as Rejected, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{CertificateError, HTTP, certificates};

/// The name that is asked for. There is one certificate, whatever the name.
const NAME: &str = "localhost";

/// Shakes hands with a listener that must show the first certificate of this chain, whatever its names and dates.
///
/// # Errors
/// When it shows another, or none, or the chain cannot be read.
pub async fn connect(tcp: TcpStream, chain: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let config = pinned(chain).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(_)) => {
                io::Error::other("the listener does not show the certificate of GATEWAY_TLS_CERT")
            }
            _ => error,
        }
    })
}

fn pinned(chain: &str) -> Result<ClientConfig, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let expected = certificates(chain)?.into_iter().next().ok_or(CertificateError::NoCertificate)?;
    let verifier = Arc::new(Pinned { expected, algorithms: provider.signature_verification_algorithms });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(CertificateError::Unusable)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// Compares the certificate with the one that is expected, byte by byte, and the signatures as always.
#[derive(Debug)]
struct Pinned {
    expected: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = *shown == self.expected;
        let other = Error::InvalidCertificate(Rejected::ApplicationVerificationFailure);
        is_it.then(ServerCertVerified::assertion).ok_or(other)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
