//! Counts round trips: stands between a client and the server and passes everything on.
//!
//! Answers are held back for a moment, as a network would hold them, and a round trip begins with the
//! first bytes from the client after an answer (or after none at all). Whatever a client sends without
//! waiting is so counted once, in however many writes; whatever it waits for counts again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Longer than a client takes between two messages that it sends without waiting.
const HOLD: Duration = Duration::from_millis(5);

/// Larger than anything that a benchmark sends at once.
const CHUNK: usize = 1 << 18;

/// A proxy on a unix socket of its own, for as long as the runtime lives.
pub struct Proxy {
    folder: tempfile::TempDir,
    round_trips: Arc<AtomicUsize>,
}

impl Proxy {
    /// Stands in front of the socket `.s.PGSQL.<port>` in `socket_dir`.
    pub fn start(socket_dir: &Path, port: u16) -> Self {
        let name = format!(".s.PGSQL.{port}");
        let behind = socket_dir.join(&name);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let listener = UnixListener::bind(folder.path().join(name)).expect("a socket can be made");
        let round_trips = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&round_trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, behind.clone(), Arc::clone(&count)));
            }
        });
        Self { folder, round_trips }
    }

    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Round trips so far, on all connections.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

async fn serve(client: UnixStream, behind: PathBuf, count: Arc<AtomicUsize>) {
    let Ok(server) = UnixStream::connect(behind).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answered = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&answered);
    let up = pass(from_client, to_server, Duration::ZERO, move || {
        count.fetch_add(usize::from(asked.swap(false, Ordering::SeqCst)), Ordering::SeqCst);
    });
    let down = pass(from_server, to_client, HOLD, move || answered.store(true, Ordering::SeqCst));
    tokio::join!(up, down);
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    hold: Duration,
    note: impl Fn(),
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        note();
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
