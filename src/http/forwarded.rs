//! Which address a client has, behind proxies.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

pub(super) use crate::access::address::counted;
use crate::config::Network;

/// Whether an address is a trusted proxy's.
pub(super) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address.to_canonical()))
}

/// The address of the client: the peer's, unless the peer is a trusted proxy. Then it is the rightmost address of
/// `X-Forwarded-For` that is not a trusted proxy: whatever stands left of it was written by somebody we do not trust.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address| is_trusted(address, trusted);
    let mut nearest = peer.to_canonical();
    if !is_trusted(nearest) {
        return nearest;
    }
    // Several headers of this name are one list (RFC 9110, 5.3).
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
            // Behind what cannot be read nothing is believed.
            let Some(address) = read(hop) else { return nearest };
            nearest = address;
            if !is_trusted(nearest) {
                return nearest;
            }
        }
    }
    nearest
}

/// Reads one address; some proxies add the port.
fn read(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let address = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = address.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).expect("is a header"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"].map(|network| network.parse().expect("is a network"));
        client_address(peer.parse().expect("is an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_counts() {
        for (peer, forwarded, client) in [
            // Nobody in between, or somebody who is not trusted: the peer itself.
            ("203.0.113.9", &[][..], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            // One proxy.
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("192.0.2.1", &["203.0.113.9"], "203.0.113.9"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // What the client wrote itself stands left of its address.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
            // A chain of proxies.
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2,10.0.0.3"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.2", "10.0.0.3"], "203.0.113.9"),
            // Everybody is a proxy: the farthest.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // With a port, as some write it.
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // What is no address ends the search at the last hop that is known.
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9,"], "10.0.0.1"),
        ] {
            assert_eq!(address(peer, forwarded), client, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_client() {
        for (address, client) in [
            ("203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(counted(address.parse().expect("is an address")).to_string(), client);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append("x-forwarded-for", value);
            }
            client_address(IpAddr::from([10, 0, 0, 1]), &headers, &["10.0.0.0/8".parse().expect("is a network")]);
        }
    }
}
