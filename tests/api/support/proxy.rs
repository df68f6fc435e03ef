//! A proxy before the database whose connections can hang.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// A proxy before the database that can be frozen: nothing is forwarded and no connection breaks.
pub struct FreezableProxy {
    pub url: String,
    pub port: u16,
    state: watch::Sender<State>,
}

/// Which connections are served.
#[derive(Clone, Copy, Default)]
struct State {
    is_frozen: bool,
    /// How often all connections so far were forgotten.
    forgotten: u64,
}

/// What one connection sees of the state.
#[derive(Clone)]
struct Watch {
    state: watch::Receiver<State>,
    /// The value of [`State::forgotten`] when it was opened.
    opened: u64,
}

impl Watch {
    /// Waits until the connection is served, or is not.
    async fn is_served(&mut self, served: bool) -> Result<(), watch::error::RecvError> {
        let opened = self.opened;
        let wanted = |state: &State| (!state.is_frozen && state.forgotten == opened) == served;
        self.state.wait_for(wanted).await.map(drop)
    }
}

impl FreezableProxy {
    /// Starts a proxy on a free port.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        Self::on(listener, url)
    }

    /// Starts a proxy on this listener.
    pub fn on(listener: TcpListener, url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL is valid");
        let port = listener.local_addr().expect("the listener is bound").port();
        let (state, watch) = watch::channel(State::default());
        let user = config.get_user().expect("the URL has a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let database = config.get_dbname().expect("the URL has a database");
        let url =
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let opened = watch.borrow().forgotten;
                let watch = Watch { state: watch.clone(), opened };
                tokio::spawn(serve(client, config.clone(), watch));
            }
        });
        Self { url, port, state }
    }

    /// Freezes the proxy, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.state.send_modify(|state| state.is_frozen = frozen);
    }

    /// Forgets all connections so far, as a firewall does that lost its table: they hang, and new ones are served.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.forgotten += 1);
    }
}

/// Forwards bytes in both directions, except while the proxy is frozen.
async fn serve(mut client: TcpStream, config: tokio_postgres::Config, mut watch: Watch) {
    let _ = watch.is_served(true).await;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{port}"));
            let mut server = UnixStream::connect(socket).await.expect("the server listens");
            forward_until_closed(&mut client, &mut server, watch).await;
        }
        tokio_postgres::config::Host::Tcp(host) => {
            let mut server =
                TcpStream::connect((host.as_str(), port)).await.expect("the server listens");
            forward_until_closed(&mut client, &mut server, watch).await;
        }
    }
}

async fn forward_until_closed<C, S>(client: &mut C, server: &mut S, mut watch: Watch)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        // The streams outlive an iteration, so that bytes in transit when the proxy freezes are kept.
        let mut stopping = watch.clone();
        tokio::select! {
            _ = copy_bidirectional(client, server) => return,
            _ = stopping.is_served(false) => {}
        }
        if watch.is_served(true).await.is_err() {
            return;
        }
    }
}
