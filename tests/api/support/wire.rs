//! Requests sent byte for byte, for what a well-behaved client does not send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::TestApp;

/// The longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens a connection without sending anything on it.
pub async fn connect(app: &TestApp) -> TcpStream {
    let address = app.address.trim_start_matches("http://");
    TcpStream::connect(address).await.expect("the server listens")
}

/// Sends the head and the first half of the body of a change of a tenant's name, and then waits. The caller sends the
/// rest.
pub async fn begin_rename(app: &TestApp, tenant: Uuid, body: &str, wait: Duration) -> TcpStream {
    let head = format!(
        "PATCH /control/v1/tenants/{tenant} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIf-Match: *\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        app.root_token,
        body.len()
    );
    let (first, _) = body.split_at(body.len() / 2);
    let mut stream = connect(app).await;
    stream.write_all(format!("{head}{first}").as_bytes()).await.expect("the server reads");
    tokio::time::sleep(wait).await;
    stream
}

/// Sends these bytes and reads until the answer's head and body are complete or the connection ends.
pub async fn exchange(app: &TestApp, request: &[u8]) -> String {
    let mut stream = connect(app).await;
    stream.write_all(request).await.expect("the server reads");
    read_answer(&mut stream).await
}

/// Reads one answer: its head and as many bytes of body as `Content-Length` announces.
pub async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        while !is_whole(&answer) {
            match stream.read(&mut chunk).await {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) => panic!("the connection broke after {:?}: {error}", text(&answer)),
            }
        }
    };
    tokio::time::timeout(ANSWER_TIMEOUT, read).await.expect("the server answers in time");
    text(&answer)
}

/// Returns the status of an answer.
#[track_caller]
pub fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("not an HTTP answer: {answer:?}"))
}

fn is_whole(answer: &[u8]) -> bool {
    let answer = text(answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
    });
    length.is_some_and(|length| body.len() >= length)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
