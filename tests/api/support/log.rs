//! The log of the process of the tests.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use super::Answer;

/// Returns the log of this process, collected from the first call on as JSON lines.
pub fn log() -> Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        // The most verbose filter that an operator may set.
        let filter = "debug,rowhouse=trace,tokio_postgres=trace,mio=off,hyper_util=off";
        rowhouse::telemetry::start_on(rowhouse::telemetry::Format::Json, filter, move || {
            Sink(Arc::clone(&sink))
        })
        .expect("the filter is valid");
        log
    });
    Arc::clone(log)
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns all of it.
pub fn log_text() -> String {
    String::from_utf8_lossy(&log().lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Returns the log lines of a request.
pub fn lines_of(answer: &Answer) -> Vec<Value> {
    let id = answer.header("x-request-id").expect("every answer has one");
    log_text()
        .lines()
        .filter(|line| line.contains(id))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}
