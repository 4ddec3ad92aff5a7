//! Access tokens as Django's simplejwt writes them: HS256 with Django's `SECRET_KEY`.
//!
//! Checks the signature and the claims, never the user. Every check is made here against the caller's clock with no
//! leeway, because the library's own would take a token in the second it expires.

use std::fmt;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, new_error};
use jsonwebtoken::signature::{self, Signer, Verifier as SignatureVerifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use ring::hmac;
use serde_json::{Map, Value as Json};

use super::token::user_id;
use crate::domain::{Micros, UserId};

/// The longest access token that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// The last second that Python's dates reach; a later `exp` is nonsense.
const MAX_SECONDS: i64 = 253_402_300_799;

/// What a valid access token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    pub user: UserId,
    /// `None` in tokens from before sessions had versions: such a token is not checked against the cache.
    pub session_version: Option<i64>,
}

/// Why an access token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("the access token is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the access token is not a JWT that Django writes")]
    Malformed,
    #[error("the access token's signature is not right")]
    Signature,
    #[error("the access token has expired")]
    Expired,
    #[error("the access token is not valid yet: do the clocks agree?")]
    NotYet,
    #[error("the access token's claim {0} is missing or wrong")]
    Claim(&'static str),
}

/// Checks access tokens with one key.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// Makes a verifier for Django's `SECRET_KEY`.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        // A second verifier finds the provider installed; it is the same one.
        let _ = PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// Checks an access token at the time `now`.
    ///
    /// # Errors
    /// See [`JwtError`]. An `exp` equal to `now` has passed.
    pub fn verify(&self, jwt: &str, now: Micros) -> Result<Claims, JwtError> {
        if jwt.len() > MAX_BYTES {
            return Err(JwtError::TooLong);
        }
        let token =
            jsonwebtoken::decode::<Map<String, Json>>(jwt, &self.key, &self.validation).map_err(|error| match error
                .kind()
            {
                ErrorKind::InvalidSignature => JwtError::Signature,
                _ => JwtError::Malformed,
            })?;
        if token.header.crit.is_some() || token.header.extras.inner().contains_key("b64") {
            return Err(JwtError::Malformed);
        }
        check_claims(&token.claims, now)
    }
}

fn check_claims(claims: &Map<String, Json>, now: Micros) -> Result<Claims, JwtError> {
    let expires = seconds(claims, "exp")?.ok_or(JwtError::Claim("exp"))?;
    if expires <= now {
        return Err(JwtError::Expired);
    }
    for name in ["iat", "nbf"] {
        if seconds(claims, name)?.is_some_and(|time| time > now) {
            return Err(JwtError::NotYet);
        }
    }
    if claims.get("token_type").and_then(Json::as_str) != Some("access") {
        return Err(JwtError::Claim("token_type"));
    }
    if !claims.get("jti").is_some_and(Json::is_string) {
        return Err(JwtError::Claim("jti"));
    }
    if claims.get("sub").is_some_and(|subject| !subject.is_string()) {
        return Err(JwtError::Claim("sub"));
    }
    let user = claims.get("user_id").and_then(user_id).ok_or(JwtError::Claim("user_id"))?;
    let session_version = match claims.get("session_version") {
        None | Some(Json::Null) => None,
        // Django lets a version pass that it cannot compare; it never writes one, so we do not.
        Some(version) => Some(version.as_i64().ok_or(JwtError::Claim("session_version"))?),
    };
    Ok(Claims { user, session_version })
}

/// Reads a time claim: whole seconds since 1970. Absent is `None`; anything but a sane integer is an error.
fn seconds(claims: &Map<String, Json>, name: &'static str) -> Result<Option<Micros>, JwtError> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let seconds = claim.as_i64().filter(|seconds| (-MAX_SECONDS..=MAX_SECONDS).contains(seconds));
    seconds.map(|seconds| Some(Micros(seconds * 1_000_000))).ok_or(JwtError::Claim(name))
}

/// HS256 over `ring`, which the rest of the program uses already. Every other algorithm is refused, whatever a token's
/// header asks for.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        let hs256 = Hs256::new(*algorithm, key.family(), key.as_bytes())?;
        Ok(Box::new(hs256))
    },
    verifier_factory: |algorithm, key| {
        let hs256 = Hs256::new(*algorithm, key.family(), key.try_get_as_bytes()?)?;
        Ok(Box::new(hs256))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(hmac::Key);

impl Hs256 {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> jsonwebtoken::errors::Result<Self> {
        match (algorithm, family) {
            (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            _ => Err(new_error(ErrorKind::InvalidAlgorithm)),
        }
    }
}

impl SignatureVerifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
