//! Redis as it is run where it must not fail: a Cluster, and a primary that Sentinels watch.

use std::fmt::Write as _;

use tempfile::TempDir;

use super::process::Process;
use super::redis_server::{RedisServer, connection, next_port};
use super::{GUARD, eventually};

/// Slots of a Cluster.
const SLOTS: u16 = 16_384;

/// Three nodes, each with a third of the slots, and perhaps a replica of each.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(node().await);
        }
        for (at, node) in (0_u16..).zip(&nodes) {
            let (first, last) = (at * (SLOTS / 3), if at == 2 { SLOTS - 1 } else { (at + 1) * (SLOTS / 3) - 1 });
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
        }
        for node in &nodes[1..] {
            let bus: Vec<String> = nodes[0].command(&["CONFIG", "GET", "cluster-port"]).await;
            let port = nodes[0].port.to_string();
            node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
        }
        let cluster = Self { nodes };
        cluster.works().await;
        cluster
    }

    /// The same with three more nodes: each follows one of the three, and takes over when that one is silent for two
    /// seconds.
    pub async fn start_with_replicas() -> Self {
        let mut cluster = Self::start().await;
        let masters = cluster.nodes.len();
        for at in 0..masters {
            let replica = node().await;
            let bus: Vec<String> = replica.command(&["CONFIG", "GET", "cluster-port"]).await;
            let port = replica.port.to_string();
            cluster.nodes[at].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
            cluster.nodes.push(replica);
        }
        cluster.works().await;
        for at in 0..masters {
            let (master, replica) = (&cluster.nodes[at], &cluster.nodes[masters + at]);
            let id: String = master.command(&["CLUSTER", "MYID"]).await;
            replica.command::<()>(&["CLUSTER", "REPLICATE", &id]).await;
            eventually("the replica follows", || async {
                replica.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
            })
            .await;
        }
        for node in &cluster.nodes {
            node.command::<()>(&["CONFIG", "SET", "cluster-node-timeout", "2000"]).await;
            eventually("all know who follows whom", || async {
                let said: String = node.command(&["CLUSTER", "NODES"]).await;
                said.lines().filter(|line| line.contains("slave")).count() == masters
            })
            .await;
        }
        cluster
    }

    /// Waits until all nodes say that all slots are served.
    pub async fn works(&self) {
        let all = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            eventually("the Cluster works", || async {
                let said: String = node.command(&["CLUSTER", "INFO"]).await;
                said.contains("cluster_state:ok") && said.lines().any(|line| line == all)
            })
            .await;
        }
    }

    /// Waits until another than this node, which is gone, has a slot, and says so.
    pub async fn is_taken_over(&self, slot: u16, gone: usize) {
        eventually("a replica takes over", || async {
            for (at, node) in self.nodes.iter().enumerate() {
                if at != gone && serves(node, slot).await {
                    let said: String = node.command(&["CLUSTER", "INFO"]).await;
                    return said.contains("cluster_state:ok");
                }
            }
            false
        })
        .await;
    }

    /// The URL, naming two of the nodes.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", self.nodes[0].port, self.nodes[1].port)
    }

    /// The slot of a key, and the index of the node that has it.
    pub async fn place(&self, key: &str) -> (u16, usize) {
        let slot: u16 = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        for (at, node) in self.nodes.iter().enumerate() {
            if serves(node, slot).await {
                return (slot, at);
            }
        }
        panic!("nobody has slot {slot}");
    }

    /// Moves a slot with its keys to another node, as `redis-cli --cluster reshard` does, and no client is told.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (source, target, slot) = (&self.nodes[from], &self.nodes[to], slot.to_string());
        let source_id: String = source.command(&["CLUSTER", "MYID"]).await;
        let target_id: String = target.command(&["CLUSTER", "MYID"]).await;
        target.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        source.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        loop {
            let keys: Vec<String> = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            if keys.is_empty() {
                break;
            }
            let port = target.port.to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            source.command::<redis::Value>(&words).await;
        }
        target.command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        source.command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
    }
}

/// Whether a node says of itself that it has a slot.
async fn serves(node: &RedisServer, slot: u16) -> bool {
    let nodes: String = node.command(&["CLUSTER", "NODES"]).await;
    let myself = nodes.lines().find(|line| line.contains("myself")).expect("a node knows itself");
    myself.split(' ').skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().is_ok_and(|first: u16| first <= slot) && last.parse().is_ok_and(|last: u16| slot <= last)
    })
}

async fn node() -> RedisServer {
    let bus = next_port().to_string();
    let own = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
    let replica = ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"];
    RedisServer::start_with(&[&own[..], &replica[..]].concat()).await
}

/// A primary, a replica and three Sentinels, which agree within a second that a silent primary is gone.
pub struct WatchedRedis {
    pub servers: Vec<RedisServer>,
    sentinels: Vec<(u16, Process, TempDir)>,
}

impl WatchedRedis {
    pub async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port.to_string();
        let replica =
            RedisServer::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
        eventually("the replica follows", || async {
            replica.command::<String>(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel(primary.port).await);
        }
        let watched = Self { servers: vec![primary, replica], sentinels };
        for (port, ..) in &watched.sentinels {
            eventually("the Sentinels know each other and the replica", || async {
                let fields = watched.ask(*port).await;
                fields.get("num-other-sentinels").is_some_and(|count| count == "2")
                    && fields.get("num-slaves").is_some_and(|count| count == "1")
            })
            .await;
        }
        watched
    }

    async fn ask(&self, port: u16) -> std::collections::HashMap<String, String> {
        let mut connection = connection(port).await.expect("the Sentinel answers");
        redis::cmd("SENTINEL").arg("MASTER").arg("chat").query_async(&mut connection).await.expect("it knows")
    }

    /// The URL, naming all Sentinels, for one of the databases.
    pub fn url(&self, database: u8) -> String {
        let mut url = format!("redis-sentinel://127.0.0.1:{}/{database}?sentinelServiceName=chat", self.sentinels[0].0);
        for (port, ..) in &self.sentinels[1..] {
            let _ = write!(url, "&node=127.0.0.1:{port}");
        }
        url
    }

    /// Waits until no Sentinel thinks that the replica is away, so that one of them may choose it.
    pub async fn sees_replica(&self) {
        type Fields = std::collections::HashMap<String, String>;

        for (port, ..) in &self.sentinels {
            eventually("the Sentinels see the replica", || async {
                let mut connection = connection(*port).await.expect("the Sentinel answers");
                let asked = redis::cmd("SENTINEL").arg("REPLICAS").arg("chat").query_async(&mut connection).await;
                let replicas: Vec<Fields> = asked.expect("it knows");
                replicas.iter().any(|of| of["flags"] == "slave" && of["master-link-status"] == "ok")
            })
            .await;
        }
    }

    /// Waits until the Sentinels have made this one the primary.
    pub async fn is_led_by(&self, server: usize) {
        let port = self.servers[server].port.to_string();
        for (sentinel, ..) in &self.sentinels {
            eventually("the Sentinels name the new primary", || async {
                self.ask(*sentinel).await.get("port") == Some(&port)
            })
            .await;
        }
    }
}

async fn sentinel(primary: u16) -> (u16, Process, TempDir) {
    for _ in 0..50 {
        let (port, directory) = (next_port(), tempfile::tempdir().expect("a temporary folder"));
        let config = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor chat 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds chat 700\nsentinel failover-timeout chat 3000\n",
            directory.path().display()
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let config = config.to_str().expect("a plain path").to_owned();
        let process = Process::spawn("redis-server", &[config, "--sentinel".to_owned()], &[]);
        let begun = process.output().find(|line| line.contains("+monitor").then_some(()));
        if tokio::time::timeout(GUARD, begun).await.expect("the Sentinel says neither yes nor no").is_some() {
            return (port, process, directory);
        }
    }
    panic!("no port for a Sentinel could be found");
}
