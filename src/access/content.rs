//! Which files may be attached. Pure.

use url::Url;

use crate::wire::command::Attachment;

/// The largest attachment, in bytes.
const MOST_BYTES: u64 = 25 * 1024 * 1024;

/// Types that may be attached: a whole family, or one type.
const TYPES: &[&str] = &[
    "image/",
    "video/",
    "audio/",
    "text/plain",
    "application/pdf",
    "application/zip",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
];

/// Which files may be attached.
#[derive(Clone, Debug)]
pub struct AttachmentRules {
    /// Where they may be, as `host` or `host:port`; anywhere when there are none.
    pub hosts: Vec<String>,
}

impl AttachmentRules {
    /// Says whether a file may be attached: over https, from an allowed host, not too large, of an allowed type.
    #[must_use]
    pub fn allow(&self, attachment: &Attachment) -> bool {
        attachment.size <= MOST_BYTES && is_allowed_type(&attachment.mime) && self.allow_url(&attachment.url)
    }

    fn allow_url(&self, url: &str) -> bool {
        let Some(url) = Url::parse(url).ok().filter(|url| url.scheme() == "https") else { return false };
        let Some(host) = url.host_str().filter(|_| url.username().is_empty() && url.password().is_none()) else {
            return false;
        };
        let place = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.hosts.is_empty() || self.hosts.contains(&place)
    }
}

fn is_allowed_type(mime: &str) -> bool {
    let essence = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = |rule: &&str| match rule.ends_with(['/', '.']) {
        true => essence.len() > rule.len() && essence.starts_with(*rule),
        false => essence == **rule,
    };
    TYPES.iter().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_come_from_allowed_hosts_and_are_of_allowed_types() {
        let file = |url: &str, size, mime: &str| Attachment {
            url: url.to_owned(),
            name: "file".to_owned(),
            size,
            mime: mime.to_owned(),
        };
        let rules = AttachmentRules { hosts: vec!["cdn.example".to_owned(), "minio.example:9000".to_owned()] };
        let anywhere = AttachmentRules { hosts: Vec::new() };
        for url in ["https://cdn.example/a.png", "https://CDN.example:443/a?b#c", "https://minio.example:9000/a"] {
            assert!(rules.allow(&file(url, MOST_BYTES, "image/png")), "{url}");
        }
        for url in
            ["http://cdn.example/a", "https://cdn.example:9000/a", "https://x@cdn.example/a", "ftp://cdn.example"]
        {
            assert!(!rules.allow(&file(url, 1, "image/png")), "{url}");
        }
        for url in [
            "https://evil.example/cdn.example",
            "https://cdn.example.evil.example/",
            "https://cdn.example@evil.example/",
        ] {
            assert!(!rules.allow(&file(url, 1, "image/png")), "{url}");
        }
        assert!(anywhere.allow(&file("https://any.example/a", 1, "image/png")));
        assert!(!anywhere.allow(&file("http://any.example/a", 1, "image/png")));
        assert!(!anywhere.allow(&file("https://any.example/a", MOST_BYTES + 1, "image/png")));
        for mime in ["video/mp4", "text/plain; charset=utf-8", "Application/PDF", "application/zip"] {
            assert!(anywhere.allow(&file("https://any.example/a", 1, mime)), "{mime}");
        }
        for mime in ["text/html", "image/", "application/x-msdownload", "png", "application/pdfx"] {
            assert!(!anywhere.allow(&file("https://any.example/a", 1, mime)), "{mime}");
        }
    }
}
