//! A proxy between a client and the server that forwards everything and counts round trips.
//!
//! Answers are delayed for a moment, as by a network. A round trip begins with the first bytes from the client, and
//! with the first bytes after each answer. All that a client sends without waiting for an answer counts once, however
//! many writes it uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The delay of an answer, longer than a client's pause between two messages that it sends without waiting.
const DELAY: Duration = Duration::from_millis(5);

/// Larger than any message that a benchmark sends.
const CHUNK: usize = 1 << 18;

/// A proxy on its own Unix socket, which runs as long as the runtime.
pub struct Proxy {
    folder: tempfile::TempDir,
    round_trips: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy for the socket `.s.PGSQL.<port>` in `socket_dir`.
    pub fn start(socket_dir: &Path, port: u16) -> Self {
        let name = format!(".s.PGSQL.{port}");
        let server_socket = socket_dir.join(&name);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let listener = UnixListener::bind(folder.path().join(name)).expect("a socket can be made");
        let round_trips = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&round_trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server_socket.clone(), Arc::clone(&count)));
            }
        });
        Self { folder, round_trips }
    }

    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the round trips so far on all connections.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

async fn serve(client: UnixStream, server_socket: PathBuf, count: Arc<AtomicUsize>) {
    let Ok(server) = UnixStream::connect(server_socket).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answered = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&answered);
    let up = forward(from_client, to_server, Duration::ZERO, move || {
        count.fetch_add(usize::from(asked.swap(false, Ordering::SeqCst)), Ordering::SeqCst);
    });
    let down =
        forward(from_server, to_client, DELAY, move || answered.store(true, Ordering::SeqCst));
    tokio::join!(up, down);
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    on_chunk: impl Fn(),
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        on_chunk();
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
