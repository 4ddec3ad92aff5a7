//! How the realtime Redis is set up, as its URL says: one server, a service that Sentinels watch, or a Cluster.

use url::Url;

use super::parse;
use super::secret::Secret;

const SCHEMES: [&str; 5] = ["redis", "rediss", "redis-sentinel", "redis-cluster", "rediss-cluster"];

/// The setup of the realtime Redis. All URLs in it begin with `redis://` or `rediss://` and name one server.
#[derive(Clone, Debug)]
pub enum Deployment {
    /// One server.
    Server(Secret),
    /// The server that Sentinels name for a service.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<Secret>,
        /// What they call the server, `mymaster` in Redis's own examples.
        service: String,
        /// User, password and database on the server; its host and port are not the server's.
        server: Secret,
    },
    /// Some nodes of a Cluster; the others are found.
    Cluster(Vec<Secret>),
}

impl Deployment {
    /// Reads a URL: `redis://`, `rediss://`, `redis-sentinel://host?node=host&sentinelServiceName=name`,
    /// `redis-cluster://host?node=host` or `rediss-cluster://`.
    ///
    /// # Errors
    /// Says what is wrong, without repeating a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = parse::url(text, &SCHEMES)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("names no host".to_owned());
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(format!("\"{database}\" is no database number"));
        }
        match url.scheme() {
            "redis-sentinel" => Self::sentinel(&url),
            "redis-cluster" | "rediss-cluster" if !matches!(database, "" | "0") => {
                Err("names a database, but a Cluster has only number 0".to_owned())
            }
            "redis-cluster" => Ok(Self::Cluster(nodes(&url, "redis", 6379)?)),
            "rediss-cluster" => Ok(Self::Cluster(nodes(&url, "rediss", 6379)?)),
            _ => Ok(Self::Server(Secret::new(text.trim()))),
        }
    }

    fn sentinel(url: &Url) -> Result<Self, String> {
        let parameter = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).map(|(_, text)| text);
        let service = parameter("sentinelServiceName").filter(|name| !name.is_empty());
        let service = service.ok_or("does not say which service: add ?sentinelServiceName=…")?.into_owned();
        let mut of_sentinels = url.clone();
        of_sentinels.set_path("");
        let (user, password) = (parameter("sentinelUsername"), parameter("sentinelPassword"));
        let changed = of_sentinels
            .set_username(user.as_deref().unwrap_or_default())
            .and_then(|()| of_sentinels.set_password(password.as_deref()));
        changed.map_err(|()| "cannot hold a password".to_owned())?;
        let sentinels = nodes(&of_sentinels, "redis", 26_379)?;
        let server = plain(url, "redis", None)?;
        Ok(Self::Sentinel { sentinels, service, server: Secret::new(server) })
    }
}

/// The URL's own host and those of its `node` parameters, each as a URL of one server.
fn nodes(url: &Url, scheme: &str, port: u16) -> Result<Vec<Secret>, String> {
    let mut own = url.clone();
    let more: Vec<String> =
        url.query_pairs().filter(|(name, _)| name == "node").map(|(_, node)| node.into_owned()).collect();
    let own_port = own.port().unwrap_or(port);
    own.set_port(Some(own_port)).map_err(|()| "cannot have a port".to_owned())?;
    let mut urls = vec![Secret::new(plain(&own, scheme, None)?)];
    for node in &more {
        urls.push(Secret::new(plain(&own, scheme, Some((node, port)))?));
    }
    Ok(urls)
}

/// The URL with another scheme and, if given, another `host[:port]`, and without parameters.
fn plain(url: &Url, scheme: &str, node: Option<(&str, u16)>) -> Result<String, String> {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.set_scheme(scheme).map_err(|()| format!("cannot begin with {scheme}://"))?;
    if let Some((node, port)) = node {
        let of_node = Url::parse(&format!("redis://{node}")).map_err(|_| format!("\"{node}\" is no host:port"))?;
        let host = of_node.host_str().filter(|host| !host.is_empty()).ok_or(format!("\"{node}\" names no host"))?;
        url.set_host(Some(host)).map_err(|_| format!("\"{node}\" names no host"))?;
        url.set_port(Some(of_node.port().unwrap_or(port))).map_err(|()| format!("\"{node}\" has no port"))?;
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(urls: &[Secret]) -> Vec<&str> {
        urls.iter().map(Secret::expose).collect()
    }

    #[test]
    fn one_server_is_taken_as_it_is() {
        for text in ["redis://127.0.0.1:6379/3", "rediss://:key@cache.example/0"] {
            assert!(matches!(Deployment::parse(text), Ok(Deployment::Server(url)) if url.expose() == text), "{text}");
        }
    }

    #[test]
    fn sentinels_are_named_with_their_service() {
        let text = "redis-sentinel://me:of-server@a/3?node=b:1&node=[::1]&sentinelServiceName=chat&sentinelPassword=x";
        let Ok(Deployment::Sentinel { sentinels, service, server }) = Deployment::parse(text) else {
            panic!("{:?}", Deployment::parse(text));
        };
        assert_eq!(service, "chat");
        assert_eq!(texts(&sentinels), ["redis://:x@a:26379", "redis://:x@b:1", "redis://:x@[::1]:26379"]);
        assert_eq!(server.expose(), "redis://me:of-server@a/3");
        assert!(Deployment::parse("redis-sentinel://a").unwrap_err().contains("sentinelServiceName"));
    }

    #[test]
    fn a_cluster_is_named_by_some_nodes() {
        let Ok(Deployment::Cluster(nodes)) = Deployment::parse("redis-cluster://:x@a:7000?node=b:7001&node=c") else {
            panic!("it is taken");
        };
        assert_eq!(texts(&nodes), ["redis://:x@a:7000", "redis://:x@b:7001", "redis://:x@c:6379"]);
        assert!(matches!(Deployment::parse("rediss-cluster://a"), Ok(Deployment::Cluster(nodes))
            if nodes[0].expose() == "rediss://a:6379"));
        assert!(Deployment::parse("redis-cluster://a/3").unwrap_err().contains("only number 0"));
    }

    #[test]
    fn what_is_no_redis_is_refused_without_repeating_it() {
        assert!(Deployment::parse("http://a").unwrap_err().contains("begins with http://"));
        assert!(Deployment::parse("redis://a/first").unwrap_err().contains("no database number"));
        assert!(Deployment::parse("redis-cluster://").is_err());
        assert!(!Deployment::parse("hunter2").unwrap_err().contains("hunter2"));
    }
}
