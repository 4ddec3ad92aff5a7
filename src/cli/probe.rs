//! `probe`: asks the gateway that runs beside it, for health checks where there is no other program to ask with. Over TLS
//! where the public listener speaks it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Exit, configuration, out};
use crate::config::Config;
use crate::transport;

/// Longest wait for the whole answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// More of an answer is not read, in bytes.
const ANSWER: u64 = 16 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks /livez on GATEWAY_OPS_LISTEN. A gateway that is alive may wait for Redis or Postgres: to \
                        restart it would help nobody. Whether it should get new connections is what --ready asks. --public asks the \
                        listener of the sockets, over TLS if GATEWAY_TLS_CERT is set, and then says whether it shows that \
                        certificate."
)]
pub(super) struct Arguments {
    /// Ask /readyz: whether new connections should come here
    #[arg(long)]
    ready: bool,
    /// Ask the public listener for nothing: whether it answers, and with which certificate
    #[arg(long, conflicts_with = "ready")]
    public: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Exit {
    let config = match configuration() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    // There is nothing at this path of the public listener, which it says.
    let (path, expected) = match (arguments.ready, arguments.public) {
        (_, true) => ("/", "HTTP/1.1 404 "),
        (true, false) => ("/readyz", "HTTP/1.1 200 "),
        (false, false) => ("/livez", "HTTP/1.1 200 "),
    };
    let asking = async {
        match arguments.public {
            true => ask_public(&config, path).await,
            false => ask(TcpStream::connect(here(config.listen.ops)).await?, path).await,
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(answer) if answer.starts_with(expected) => Exit::Done,
        Ok(answer) => {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            out::say(format_args!("{path}: {} {}", head.lines().next().unwrap_or("no answer"), body.trim()));
            Exit::NotFit
        }
        Err(error) => {
            out::say(format_args!("{path}: {error}"));
            Exit::NotFit
        }
    }
}

/// Where a listener on all interfaces is reached from the same machine.
fn here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn ask_public(config: &Config, path: &str) -> io::Result<String> {
    let stream = TcpStream::connect(here(config.listen.public)).await?;
    match &config.tls {
        None => ask(stream, path).await,
        Some(tls) => ask(transport::connect(stream, &tls.certificate).await?, path).await,
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.flush().await?;
    stream.take(ANSWER).read_to_string(&mut answer).await?;
    Ok(answer)
}
