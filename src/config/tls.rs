//! The certificate of the public listener, where the gateway speaks TLS itself.

use super::secret::Secret;
use super::variable::{Reader, Variable};

const CERTIFICATE: Variable = Variable::new(
    "GATEWAY_TLS_CERT",
    "",
    "certificate of the public listener and its chain, PEM, best as `GATEWAY_TLS_CERT_FILE`. Empty: no TLS, for a place behind \
     a balancer that speaks it",
)
.secret()
.live()
.example("-----BEGIN CERTIFICATE-----");
const KEY: Variable = Variable::new(
    "GATEWAY_TLS_KEY",
    "",
    "private key of that certificate, PEM without a passphrase, best as `GATEWAY_TLS_KEY_FILE`",
)
.secret()
.live()
.example("-----BEGIN PRIVATE KEY-----");

pub(super) const VARIABLES: &[Variable] = &[CERTIFICATE, KEY];

/// A certificate and its key, as they were read.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain, PEM, the server's own certificate first.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: Secret,
}

/// `Some(None)` where no TLS is spoken.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Tls>> {
    let certificate = reader.take(&CERTIFICATE, |text| Ok(text.to_owned()));
    let key = reader.take(&KEY, |text| Ok(Secret::new(text)));
    let (certificate, key) = (certificate?, key?);
    let missing = match (certificate.is_empty(), key.expose().is_empty()) {
        (true, true) => return Some(None),
        (false, false) => return Some(Some(Tls { certificate, key })),
        (true, false) => (&CERTIFICATE, &KEY),
        (false, true) => (&KEY, &CERTIFICATE),
    };
    reader.wrong(
        missing.0.name,
        missing.0,
        format!("is not set, and {} is: TLS needs both, best as files (`…_FILE`)", missing.1.name),
    );
    None
}
