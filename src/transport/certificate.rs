//! The certificate of the public listener and its key: read whole and checked whole before either is used.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, ServerConfig};

use super::validity::Validity;
use crate::config::Secret;

/// What is spoken inside: what a browser's WebSocket asks for.
pub(super) const HTTP: &[u8] = b"http/1.1";

/// What is wrong with a certificate or its key. Nothing of either is repeated.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain is no PEM, or empty.
    #[error(
        "GATEWAY_TLS_CERT: there is no certificate in it, or one that is cut: it must be PEM, the server's own first"
    )]
    NoCertificate,
    /// The first certificate is none.
    #[error("GATEWAY_TLS_CERT: the first certificate cannot be read")]
    Unreadable,
    /// The key is no PEM.
    #[error(
        "GATEWAY_TLS_KEY: there is no private key in it: it must be PEM (PKCS #8, PKCS #1 or SEC 1), without a passphrase"
    )]
    NoKey,
    /// They do not belong together.
    #[error("GATEWAY_TLS_KEY: the key is not that of the first certificate in GATEWAY_TLS_CERT")]
    WrongKey,
    /// The TLS library does not take them.
    #[error("GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: {0}")]
    Unusable(Error),
}

/// A certificate with its key, ready to be used. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl Certificate {
    /// Reads a chain and a key, both PEM. Whether it is valid today is not looked at: clients may know better.
    ///
    /// # Errors
    /// When either cannot be read or used, or they do not belong together.
    pub fn from_pem(chain: &str, key: &Secret) -> Result<Self, CertificateError> {
        let chain = certificates(chain)?;
        let validity = chain.first().and_then(|first| Validity::of(first)).ok_or(CertificateError::Unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| CertificateError::NoKey)?;
        let provider = ring::default_provider();
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(CertificateError::Unusable)?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::WrongKey,
            Error::InvalidCertificate(_) => CertificateError::Unreadable,
            error => CertificateError::Unusable(error),
        })?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        // Who returns to this instance is spared the signature, and we too: a storm of those who return is cheaper. The
        // keys of the tickets are this certificate's own, so that a new certificate is seen by everybody.
        config.ticketer = ring::Ticketer::new().map_err(CertificateError::Unusable)?;
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), validity })
    }

    /// From when to when it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

pub(super) fn certificates(chain: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(CertificateError::NoCertificate)
}
