//! Certificates of a test's own, and clients that trust one of them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use community_gateway::domain::Micros;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

/// The name that all these certificates are for.
pub const HOST: &str = "chat.test";

const DAY: u64 = 86_400;

/// A certificate that signed itself, and its key.
pub struct TestCertificate {
    /// PEM.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// When it ends, in seconds since 1970.
    pub ends: u64,
    der: CertificateDer<'static>,
}

impl TestCertificate {
    /// One that is valid for a year.
    pub fn new() -> Self {
        Self::ending_in(365)
    }

    /// One that is valid for so many days more; it began a year before it ends.
    pub fn ending_in(days: i64) -> Self {
        let ends = (Micros::now().seconds() + days * DAY.cast_signed()).cast_unsigned();
        let mut parameters = CertificateParams::new(vec![HOST.to_owned()]).expect("a name");
        parameters.not_before = (UNIX_EPOCH + Duration::from_secs(ends - 366 * DAY)).into();
        parameters.not_after = (UNIX_EPOCH + Duration::from_secs(ends)).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { chain: certificate.pem(), key: key.serialize_pem(), ends, der: certificate.der().clone() }
    }

    /// A client that trusts this certificate and no other.
    pub fn client(&self) -> TlsConnector {
        self.client_of(&[&version::TLS13, &version::TLS12], &[])
    }

    /// The same with these versions, and these protocols to be spoken inside.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&'static [u8]],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// A connection of a client, with TLS or without.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Wire for T {}
