//! Where the gateway listens, and what it is called.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::parse::whole;
use super::system;
use super::variable::{Reader, Variable};
use crate::domain::InstanceName;

const PUBLIC: Variable =
    Variable::new("GATEWAY_LISTEN", "127.0.0.1:8001", "public listener: `ws/community/*` only").example("0.0.0.0:8001");
const OPS: Variable = Variable::new(
    "GATEWAY_OPS_LISTEN",
    "127.0.0.1:9101",
    "private listener: `/livez`, `/readyz`, `/metrics`, `/admin/`; keep it away from the internet",
);
const INSTANCE: Variable = Variable::found(
    "GATEWAY_INSTANCE",
    "host name and a random suffix",
    "gateway-1",
    "this instance's name on the bus and in logs; two instances must not share one",
);

const THREADS: Variable = Variable::new(
    "GATEWAY_THREADS",
    "0",
    "threads that serve; 0: one for each core that the process may use. 1 where each core has an instance of its own",
);

pub(super) const VARIABLES: &[Variable] = &[PUBLIC, OPS, INSTANCE, THREADS];

/// The two listeners.
#[derive(Clone, Debug)]
pub struct Listen {
    /// For browsers: the sockets.
    pub public: SocketAddr,
    /// For operators: health and metrics.
    pub ops: SocketAddr,
}

impl Listen {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let public = reader.take(&PUBLIC, address);
        let ops = reader.take(&OPS, address);
        let (public, ops) = (public?, ops?);
        if public == ops && public.port() != 0 {
            reader.wrong(OPS.name, &OPS, format!("is {ops}, the same as {}", PUBLIC.name));
            return None;
        }
        Some(Self { public, ops })
    }
}

pub(super) fn instance(reader: &mut Reader<'_>) -> Option<InstanceName> {
    let default = || format!("{}-{:06x}", system::host_name(), rand::random::<u32>() & 0xff_ffff);
    reader.take_or(&INSTANCE, default, |text| {
        let fits = (1..=64).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            Ok(InstanceName::new(text))
        } else {
            Err(format!("\"{text}\" is not 1 to 64 letters, digits, dots, dashes and underscores"))
        }
    })
}

/// How many threads serve; `None` is one for each core.
pub(super) fn threads(reader: &mut Reader<'_>) -> Option<Option<NonZeroUsize>> {
    reader.take(&THREADS, whole::<usize>(0..=1024)).map(NonZeroUsize::new)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| format!("\"{text}\" is not an IP address and a port; 0.0.0.0 means all interfaces"))
}
