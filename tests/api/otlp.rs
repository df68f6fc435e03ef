//! Spans that are exported to a collector of OpenTelemetry, which only a program with the feature `otlp` does.

#[cfg(feature = "otlp")]
use std::io::{Read, Write};

use crate::support::Program;

#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_without_the_feature_refuses_a_collector_and_says_why() {
    let program = Program::embedded().with("ROWHOUSE_LOG__OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let ran = program.run(&["healthcheck"]).expect(2);
    assert!(ran.stderr.contains("built without the feature otlp"), "{ran:?}");
}

#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_request_reaches_the_collector_as_part_of_the_clients_trace() {
    let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = collector.local_addr().expect("it is bound");
    let (sender, batches) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in collector.incoming() {
            let Ok(mut connection) = connection else { return };
            let _ = connection.set_read_timeout(Some(std::time::Duration::from_millis(500)));
            let mut batch = Vec::new();
            let _ = connection.read_to_end(&mut batch);
            let _ = connection
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = sender.send(batch);
        }
    });
    let database = crate::support::TestDatabase::create().await;
    let program =
        Program::on(&database).with("ROWHOUSE_LOG__OTLP_ENDPOINT", &format!("http://{address}"));
    let server = program.serve(&[]);
    let trace = uuid::Uuid::new_v4();
    let header = format!("00-{}-00f067aa0ba902b7-01", trace.simple());
    let request = reqwest::Client::new().get(format!("{}/healthz", server.address));
    let answer = request.header("traceparent", header).send().await.expect("the server answers");
    assert_eq!(answer.status(), 200);
    server.stop("TERM").expect(0);
    let mut all = Vec::new();
    while let Ok(batch) = batches.recv_timeout(std::time::Duration::from_secs(2)) {
        all.extend(batch);
    }
    let holds = |bytes: &[u8]| all.windows(bytes.len()).any(|window| window == bytes);
    assert!(
        holds(b"POST /v1/traces") && holds(b"rowhouse") && holds(b"/healthz"),
        "{} bytes",
        all.len()
    );
    assert!(holds(trace.as_bytes()), "the trace of the client is in it");
}
