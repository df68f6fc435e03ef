//! A proxy before a database, for the test binaries that need a bad network: it resets, delays, swallows, forgets and cuts
//! connections, and holds back the answer to a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp, unix};
use tokio::sync::watch;
use tokio_postgres::config::{Config, Host};

/// What the proxy does with the bytes of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Works,
    /// Forwards each piece late.
    Slow(Duration),
    /// Forwards nothing, and closes nothing. New connections are accepted and then treated alike.
    Swallows,
    /// Resets every connection, and every new one.
    Resets,
}

/// The state of the network, and what happened to all connections so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    network: Network,
    /// How often all connections were forgotten.
    forgotten: u32,
    /// How often all connections were cut.
    cuts: u32,
    /// Whether the answer to a commit is held back.
    holds_commits: bool,
}

/// A proxy. It serves until the runtime ends.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// The URL of the database, through the proxy.
    pub(crate) url: String,
    pub(crate) port: u16,
    state: watch::Sender<State>,
    /// The messages of the server until all connections are cut; negative: no cut is planned.
    left: Arc<AtomicI64>,
    /// The number of commits whose answer is or was held back.
    held: watch::Sender<u32>,
}

impl Proxy {
    /// Starts a proxy before the server of this URL, on a free port.
    pub(crate) async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        Self::on(listener, url)
    }

    /// Starts a proxy on this listener.
    pub(crate) fn on(listener: TcpListener, url: &str) -> Self {
        let config: Config = url.parse().expect("the URL is valid");
        let port = listener.local_addr().expect("the listener is bound").port();
        let user = config.get_user().expect("the URL has a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let database = config.get_dbname().expect("the URL has a database");
        let url =
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        let state = State { network: Network::Works, forgotten: 0, cuts: 0, holds_commits: false };
        let (state, left) = (watch::Sender::new(state), Arc::new(AtomicI64::new(-1)));
        let proxy = Self { url, port, state, left, held: watch::Sender::new(0) };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client, config.clone()));
            }
        });
        proxy
    }

    pub(crate) fn set(&self, network: Network) {
        self.state.send_modify(|state| state.network = network);
    }

    /// Freezes the network, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.set(if frozen { Network::Swallows } else { Network::Works });
    }

    /// Forgets all present connections, as a firewall does that lost its table: their bytes are swallowed for ever, and
    /// new connections work.
    pub(crate) fn forget_connections(&self) {
        self.state.send_modify(|state| state.forgotten += 1);
    }

    /// Plans to cut all connections once, after so many messages of the server.
    pub(crate) fn cut_after(&self, messages: i64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Calls a planned cut off; returns whether it was made.
    pub(crate) fn was_cut(&self) -> bool {
        self.left.swap(-1, Ordering::SeqCst) <= 0
    }

    /// Holds the answers back to commits that are sent from now on, or forwards all.
    pub(crate) fn hold_commits(&self, holds: bool) {
        self.state.send_modify(|state| state.holds_commits = holds);
    }

    /// Waits until the answer to so many commits was held back.
    pub(crate) async fn commits_held(&self, count: u32) {
        let mut held = self.held.subscribe();
        held.wait_for(|held| *held >= count).await.expect("the proxy lives");
    }

    async fn serve(self, client: TcpStream, config: Config) {
        let mut state = self.state.subscribe();
        let born = *state.borrow_and_update();
        if born.network == Network::Resets {
            let _ = client.set_zero_linger();
            return;
        }
        let connection = Connection { proxy: self, born, is_held: AtomicBool::new(false) };
        let (from_client, to_client) = client.into_split();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        match &config.get_hosts()[0] {
            Host::Unix(folder) => {
                let socket = folder.join(format!(".s.PGSQL.{port}"));
                let Ok(server) = UnixStream::connect(socket).await else { return };
                let (from_server, to_server) = server.into_split();
                tokio::join!(
                    connection.forward(Direction::There, from_client, to_server),
                    connection.forward(Direction::Back, from_server, to_client),
                );
            }
            Host::Tcp(host) => {
                let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { return };
                let (from_server, to_server) = server.into_split();
                tokio::join!(
                    connection.forward(Direction::There, from_client, to_server),
                    connection.forward(Direction::Back, from_server, to_client),
                );
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

/// A connection through the proxy.
struct Connection {
    proxy: Proxy,
    /// The state when it was opened.
    born: State,
    /// Whether it has sent a commit whose answer is held back.
    is_held: AtomicBool,
}

impl Connection {
    /// Whether it is closed, by a cut or a reset.
    fn is_closed(&self, now: &State) -> bool {
        now.cuts != self.born.cuts || now.network == Network::Resets
    }

    fn passes(&self, direction: Direction, now: &State) -> bool {
        let is_held = direction == Direction::Back
            && now.holds_commits
            && self.is_held.load(Ordering::SeqCst);
        now.forgotten == self.born.forgotten && now.network != Network::Swallows && !is_held
    }

    /// Forwards one direction until its end, as the network allows.
    async fn forward(
        &self,
        direction: Direction,
        mut from: impl AsyncReadExt + Half + Unpin,
        mut to: impl AsyncWriteExt + Half + Unpin,
    ) {
        let (mut state, mut closed) = (self.proxy.state.subscribe(), self.proxy.state.subscribe());
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = tokio::select! {
                count = from.read(&mut bytes) => count.unwrap_or(0),
                now = closed.wait_for(|now| self.is_closed(now)) => {
                    if now.is_ok_and(|now| now.network == Network::Resets) {
                        from.reset();
                        to.reset();
                    }
                    return;
                }
            };
            self.note(direction, &bytes[..count]);
            let now = *state.borrow_and_update();
            if let Network::Slow(delay) = now.network {
                tokio::time::sleep(delay).await;
            }
            // What is swallowed now is forwarded when the network works again, unless it has forgotten the connection.
            let goes_on = |now: &State| self.passes(direction, now) || self.is_closed(now);
            match state.wait_for(goes_on).await {
                Ok(now) if !self.is_closed(&now) => {}
                _ => return,
            }
            if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }

    /// Counts a message of the server, and looks for a commit in one of the client.
    fn note(&self, direction: Direction, bytes: &[u8]) {
        let proxy = &self.proxy;
        if direction == Direction::Back {
            if !bytes.is_empty() && proxy.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                proxy.state.send_modify(|state| state.cuts += 1);
            }
        } else if proxy.state.borrow().holds_commits
            && bytes.windows(b"COMMIT".len()).any(|word| word == b"COMMIT")
            && !self.is_held.swap(true, Ordering::SeqCst)
        {
            proxy.held.send_modify(|held| *held += 1);
        }
    }
}

/// A half of a connection.
trait Half {
    /// Has its end be a reset.
    fn reset(&self);
}

impl Half for tcp::OwnedReadHalf {
    fn reset(&self) {
        let _ = self.as_ref().set_zero_linger();
    }
}

impl Half for tcp::OwnedWriteHalf {
    fn reset(&self) {
        let _ = self.as_ref().set_zero_linger();
    }
}

impl Half for unix::OwnedReadHalf {
    fn reset(&self) {}
}

impl Half for unix::OwnedWriteHalf {
    fn reset(&self) {}
}
