//! A proxy between a server and its database, which can reset, delay, swallow and forget connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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

/// The state of the network, and how often it has forgotten its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    network: Network,
    forgotten: u32,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: watch::Sender<State>,
}

impl Proxy {
    /// Listens for connections to a server on this port.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("the listener is bound").port();
        let (state, watch) = watch::channel(State { network: Network::Works, forgotten: 0 });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, watch.clone()));
            }
        });
        Self { port, state }
    }

    pub(crate) fn set(&self, network: Network) {
        self.state.send_modify(|state| state.network = network);
    }

    /// Forgets all present connections: their bytes are swallowed for ever, and new connections work.
    pub(crate) fn forget_connections(&self) {
        self.state.send_modify(|state| state.forgotten += 1);
    }
}

async fn serve(client: TcpStream, port: u16, mut state: watch::Receiver<State>) {
    let born = *state.borrow_and_update();
    if born.network == Network::Resets {
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return reset(client) };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        forward(from_client, to_server, born.forgotten, state.clone()),
        forward(from_server, to_client, born.forgotten, state),
    );
}

/// Forwards one direction until its end, as the network allows.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    born: u32,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let mut resets = state.clone();
        let count = tokio::select! {
            count = from.read(&mut bytes) => count.unwrap_or(0),
            _ = resets.wait_for(|now| now.network == Network::Resets) => {
                let _ = to.as_ref().set_zero_linger();
                let _ = from.as_ref().set_zero_linger();
                return;
            }
        };
        let now = *state.borrow_and_update();
        if let Network::Slow(delay) = now.network {
            tokio::time::sleep(delay).await;
        }
        // What is swallowed now is forwarded when the network works again, unless it has forgotten the connection.
        let passes = |now: &State| now.forgotten == born && now.network != Network::Swallows;
        let ends = |now: &State| now.network == Network::Resets;
        match state.wait_for(|now| passes(now) || ends(now)).await {
            Ok(now) if !ends(&now) => {}
            _ => return,
        }
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
