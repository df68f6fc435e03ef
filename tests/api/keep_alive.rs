//! How long a connection of a client stays open without a request (`http.keep_alive`).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Program, TestApp, TestDatabase};

/// Longer than the 5 s that proxies found too short.
const PAUSE: Duration = Duration::from_secs(6);

const LONG: Duration = Duration::from_secs(20);

/// A connection on which a client sends one request after the other.
struct Connection(TcpStream);

impl Connection {
    async fn open(address: &str) -> Self {
        let authority = address.strip_prefix("http://").expect("the address is a URL");
        Self(TcpStream::connect(authority).await.expect("the server listens"))
    }

    /// Sends a request and returns the answer; empty if the server has closed the connection.
    async fn ask(&mut self) -> String {
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        if self.0.write_all(request).await.is_err() {
            return String::new();
        }
        let mut answer = Vec::new();
        while !answer.ends_with(br#"{"status":"ok"}"#) {
            match self.0.read_buf(&mut answer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        String::from_utf8(answer).expect("an answer is text")
    }

    /// Waits until the server closes the connection, and returns how long that took.
    async fn closed(mut self) -> Duration {
        let started = Instant::now();
        let end = tokio::time::timeout(LONG, self.0.read_u8()).await;
        assert!(end.expect("the server closes it").is_err());
        started.elapsed()
    }
}

#[tokio::test]
async fn a_connection_without_a_request_stays_open_longer_than_the_proxy_in_front_waits() {
    let app = TestApp::spawn().await;
    let mut connection = Connection::open(&app.address).await;
    assert!(connection.ask().await.starts_with("HTTP/1.1 200"));
    tokio::time::sleep(PAUSE).await;
    assert!(connection.ask().await.starts_with("HTTP/1.1 200"), "it is still open");
}

#[tokio::test]
async fn a_connection_is_closed_after_the_time_of_the_settings_or_after_each_answer() {
    let app = TestApp::builder().with("http.keep_alive", "1s").spawn().await;
    let mut connection = Connection::open(&app.address).await;
    assert!(connection.ask().await.starts_with("HTTP/1.1 200"));
    connection.closed().await;

    let app = TestApp::builder().with("http.keep_alive", "0").spawn().await;
    let mut connection = Connection::open(&app.address).await;
    let answer = connection.ask().await;
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    connection.closed().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_connections_without_a_request() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_HTTP__SHUTDOWN_TIMEOUT", "30s");
    let server = program.serve(&[]);
    let mut connection = Connection::open(&server.address).await;
    assert!(connection.ask().await.starts_with("HTTP/1.1 200"));
    let stopped = server.stop("TERM").expect(0);
    assert!(stopped.took < Duration::from_secs(15), "{stopped:?}");
    drop(connection);
}
