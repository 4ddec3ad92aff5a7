//! A TCP proxy of the test's own that misbehaves when told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Passes them on.
    Good,
    /// Passes each piece on after a while.
    Slow(Duration),
    /// Passes so many bytes a second on, in each direction of each connection.
    Narrow(u32),
    /// Takes connections and keeps them, and passes nothing on: a peer that is gone without a word.
    Silent,
    /// Does that with the first so many connections, and is good to the others.
    Stale(usize),
    /// Resets every connection.
    Cut,
}

/// The proxy. Ends with its value, and all connections with it.
pub struct ChaosProxy {
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    /// Raised by every cut: who was there before it is gone, even if all is good again at once.
    cuts: watch::Sender<u32>,
    target: Arc<watch::Sender<SocketAddr>>,
    opened: Arc<AtomicUsize>,
    /// Aborted when it is dropped.
    _task: JoinSet<()>,
}

impl ChaosProxy {
    /// A proxy in front of a server.
    pub async fn before(target: SocketAddr) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), target).await
    }

    /// The same at this address: any of 127.0.0.0/8.
    pub async fn at(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mood, moods) = watch::channel(Mood::Good);
        let target = Arc::new(watch::Sender::new(target));
        let opened = Arc::new(AtomicUsize::new(0));
        let (cuts, cut) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&target), moods, cut, Arc::clone(&opened)));
        Self { address, mood, cuts, target, opened, _task: task }
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Passes everything on, also what was kept while silent.
    pub fn heal(&self) {
        self.mood.send_replace(Mood::Good);
    }

    /// Lets each piece wait.
    pub fn delay(&self, delay: Duration) {
        self.mood.send_replace(Mood::Slow(delay));
    }

    /// Lets only so many bytes a second through, in each direction of each connection.
    pub fn throttle(&self, bytes: u32) {
        self.mood.send_replace(Mood::Narrow(bytes));
    }

    /// Passes nothing on and says nothing: all connections, old and new, are half open.
    pub fn fall_silent(&self) {
        self.mood.send_replace(Mood::Silent);
    }

    /// Does that to the connections that are open now; new ones work.
    pub fn stall_the_open_ones(&self) {
        self.mood.send_replace(Mood::Stale(self.opened.load(Ordering::Relaxed)));
    }

    /// Resets all connections, and every new one until [`ChaosProxy::heal`].
    pub fn cut(&self) {
        self.mood.send_replace(Mood::Cut);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Leads new connections elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<watch::Sender<SocketAddr>>,
    moods: watch::Receiver<Mood>,
    cut: watch::Receiver<u32>,
    opened: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (target, moods, mut cut) = (*target.borrow(), moods.clone(), cut.clone());
        cut.mark_unchanged();
        let number = opened.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(client, target, moods, cut, number));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    target: SocketAddr,
    moods: watch::Receiver<Mood>,
    mut cut: watch::Receiver<u32>,
    number: usize,
) {
    // A reset, not a goodbye, however this ends.
    let _ = client.set_zero_linger();
    if *moods.borrow() == Mood::Cut {
        return;
    }
    // What waits for a slow line waits at its sender, and not here.
    let Ok(socket) = TcpSocket::new_v4() else { return };
    let _ = socket.set_recv_buffer_size(16 * 1024);
    let Ok(server) = socket.connect(target).await else { return };
    let _ = (server.set_zero_linger(), server.set_nodelay(true), client.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (there, back) = (moods.clone(), moods.clone());
    tokio::select! {
        () = pass(from_client, to_server, there, number) => {}
        () = pass(from_server, to_client, back, number) => {}
        _ = cut.changed() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut moods: watch::Receiver<Mood>, number: usize) {
    let mut piece = vec![0; 4096];
    loop {
        let Ok(read @ 1..) = from.read(&mut piece).await else { return };
        let passes = |mood: &Mood| *mood != Mood::Silent && !matches!(*mood, Mood::Stale(first) if number < first);
        let Ok(mood) = moods.wait_for(passes).await.map(|mood| *mood) else { return };
        match mood {
            Mood::Slow(delay) => tokio::time::sleep(delay).await,
            Mood::Narrow(bytes) => {
                let read = u32::try_from(read).expect("a piece is small");
                tokio::time::sleep(Duration::from_secs(1) * read / bytes.max(1)).await;
            }
            _ => {}
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}
