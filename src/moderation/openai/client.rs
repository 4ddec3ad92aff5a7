//! One request to the API: what is sent, and how much of an answer is read. Knows no queue and no retry.
//!
//! Bodies are read up to a bound and never logged; the key is marked so that it does not print.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Response, Url, redirect, retry};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::budget::Limits;
use super::reply::{self, Fault};
use super::retry::Advice;
use super::{Settings, StartError};
use crate::config::{Live, Secret};
use crate::domain::Micros;
use crate::moderation::scores::Scores;

/// Most bytes read of an answer, and most more for each text. A result is under 2 KiB as the API writes it.
const MOST_BYTES: usize = 32 * 1024;
const MOST_BYTES_A_TEXT: usize = 16 * 1024;
/// How long an idle connection is kept: less than edges keep it, so that a request seldom meets one that is closing.
const IDLE: Duration = Duration::from_secs(60);

/// How one request went.
#[derive(Debug)]
pub(super) struct Asked {
    /// As many scores as texts, in their order.
    pub outcome: Result<Vec<Scores>, Fault>,
    pub advice: Advice,
    pub limits: Limits,
}

impl From<Fault> for Asked {
    fn from(fault: Fault) -> Self {
        Self { outcome: Err(fault), advice: Advice::default(), limits: Limits::default() }
    }
}

#[derive(Serialize)]
pub(super) struct Question<'a, T> {
    pub model: &'a str,
    pub input: &'a [T],
}

/// The way to the API.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    authorization: Live<HeaderValue>,
    model: String,
    deadline: Duration,
}

impl Client {
    /// # Errors
    /// When the address, the key or TLS cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, StartError> {
        let url = format!("{}/moderations", settings.base_url.trim_end_matches('/'));
        let url = Url::parse(&url).ok().filter(Url::has_host).ok_or(StartError::BaseUrl)?;
        let authorization = Live::new(authorization(&settings.key)?);
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race to another who installs it is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("community-gateway/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none()) // the key and the texts go to this address and no other
            .retry(retry::never()) // retries are ours, and counted
            .connect_timeout(settings.deadline)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.concurrency.max(1))
            .build()
            .map_err(|error| StartError::Tls(error.to_string()))?;
        Ok(Self { http, url, authorization, model: settings.model.clone(), deadline: settings.deadline })
    }

    /// Goes by another key from the next request on.
    pub fn set_key(&self, key: &Secret) -> Result<(), StartError> {
        self.authorization.set(authorization(key)?);
        Ok(())
    }

    /// Asks for the scores of some texts.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection that the request was on.
    pub async fn ask<T: AsRef<str> + Serialize>(&self, texts: &[T]) -> Asked {
        let until = Instant::now() + self.deadline;
        let request = self
            .http
            .post(self.url.clone())
            .header(AUTHORIZATION, HeaderValue::clone(&self.authorization.load()))
            .json(&Question { model: &self.model, input: texts })
            .send();
        let response = match tokio::time::timeout_at(until, request).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => return Fault::Unreachable.into(),
            Err(_) => return Fault::Timeout.into(),
        };
        let (advice, limits) = (Advice::read(response.headers(), Micros::now()), Limits::read(response.headers()));
        let outcome =
            match timeout(until.saturating_duration_since(Instant::now()), answer(response, texts.len())).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Fault::Timeout),
            };
        Asked { outcome, advice, limits }
    }
}

/// The header that carries a key.
///
/// # Errors
/// When it holds what no header can.
pub(super) fn authorization(key: &Secret) -> Result<HeaderValue, StartError> {
    let value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok();
    let mut value = value.filter(|value| value.to_str().is_ok()).ok_or(StartError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

async fn answer(response: Response, texts: usize) -> Result<Vec<Scores>, Fault> {
    let status = response.status();
    let body = body(response, MOST_BYTES + MOST_BYTES_A_TEXT * texts).await;
    if status.is_success() {
        reply::read(&body?, texts)
    } else {
        // The status counts, whatever became of its body.
        Err(reply::fault(status, &body.unwrap_or_default()))
    }
}

async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
    let declared = response.content_length().unwrap_or(0);
    if declared > most as u64 {
        return Err(Fault::TooLarge);
    }
    let mut body = Vec::with_capacity(usize::try_from(declared).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(|_| Fault::Unreachable)? {
        if body.len() + chunk.len() > most {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
