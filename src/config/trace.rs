//! Traces: where they go, and how many. The names are OpenTelemetry's.

use super::parse;
use super::secret::Secret;
use super::variable::{Reader, Variable};

const ENDPOINT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "",
    "collector that takes traces over OTLP/HTTP as JSON; `/v1/traces` is added; empty turns traces off",
)
.example("http://127.0.0.1:4318")
.url();
const HEADERS: Variable =
    Variable::new("OTEL_EXPORTER_OTLP_HEADERS", "", "headers for it, comma separated: `name=value`")
        .example("x-api-key=secret")
        .secret();
const SHARE: Variable = Variable::new(
    "OTEL_TRACES_SAMPLER_ARG",
    "0.01",
    "share of clients' frames that are traced, 0 to 1; what another instance traces is followed in any case",
);
const SERVICE: Variable = Variable::new("OTEL_SERVICE_NAME", "community-gateway", "this service's name in traces");

pub(super) const VARIABLES: &[Variable] = &[ENDPOINT, HEADERS, SHARE, SERVICE];

/// Where traces go.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The whole address.
    pub endpoint: String,
    /// Names and values.
    pub headers: Vec<(String, Secret)>,
    /// Of frames that begin a trace; 0 to 1.
    pub share: f64,
    /// The service's name.
    pub service: String,
}

impl Trace {
    /// Inner `None` when traces are off.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        let endpoint = reader.take(&ENDPOINT, |text| {
            if text.trim().is_empty() {
                return Ok(None);
            }
            let url = parse::url(text, &["http", "https"])?;
            Ok(Some(format!("{}/v1/traces", url.as_str().trim_end_matches('/'))))
        });
        let headers = reader.take(&HEADERS, |text| parse::list(text, header));
        let share = reader.take(&SHARE, share);
        let service = reader.take(&SERVICE, |text| Ok(text.trim().to_owned()));
        let (endpoint, headers, share, service) = (endpoint?, headers?, share?, service?);
        Some(endpoint.map(|endpoint| Self { endpoint, headers, share, service }))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    number.ok_or_else(|| format!("\"{text}\" is not a number from 0 to 1"))
}

/// The value is not repeated: it may be a key.
fn header(text: &str) -> Result<(String, Secret), String> {
    let (name, value) = text.split_once('=').ok_or("a header is not written as name=value")?;
    let name = name.trim().to_ascii_lowercase();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let value = value.trim();
    if !is_name || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("a header's name or value has characters that a header may not have".to_owned());
    }
    Ok((name, Secret::new(value)))
}
