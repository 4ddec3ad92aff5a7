//! Which files may be attached to messages.

use url::Url;

use super::parse;
use super::variable::{Reader, Variable};

const HOSTS: Variable = Variable::new(
    "GATEWAY_ATTACHMENT_HOSTS",
    "",
    "comma separated hosts (`host` or `host:port`) that attachments may be on, always over https; while it is empty any host may be",
)
.example("media.app.example,s3.eu-central-1.amazonaws.com");

pub(super) const VARIABLES: &[Variable] = &[HOSTS];

/// Which files may be attached.
#[derive(Clone, Debug)]
pub struct Attachments {
    /// `host` or `host:port`, in lower case; any host when there are none.
    pub hosts: Vec<String>,
}

impl Attachments {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { hosts: reader.take(&HOSTS, |text| parse::list(text, host))? })
    }
}

/// A host as URLs have it, with a port if it is not https's own.
fn host(text: &str) -> Result<String, String> {
    let url = Url::parse(&format!("https://{text}")).ok().filter(|url| url.path() == "/" && !text.ends_with('/'));
    let url = url.filter(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
    let host = url.as_ref().and_then(Url::host_str).filter(|_| !text.contains(['@', '*']));
    match (host, url.as_ref().and_then(Url::port)) {
        (Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        (Some(host), None) => Ok(host.to_owned()),
        (None, _) => Err(format!("\"{text}\" is not a host, with or without a port")),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_host_is_no_url() {
        assert_eq!(host("CDN.Example").as_deref(), Ok("cdn.example"));
        assert_eq!(host("cdn.example:443").as_deref(), Ok("cdn.example"));
        assert_eq!(host("minio:9000").as_deref(), Ok("minio:9000"));
        for text in ["https://cdn.example", "cdn.example/x", "cdn.example/", "a@b", "a?b", "*"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
