//! `wait`: waits until a server is ready, for scripts that have just started one.

use std::time::{Duration, Instant};

use serde_json::json;

use super::control::Target;
use super::healthcheck::probe;
use super::{Exit, Failure, Output, output};
use clap::Args;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// How long to wait, such as 60s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(target: &Target, command: Wait) -> Result<Exit, Failure> {
    let (client, address) = probe(target)?;
    let began = Instant::now();
    loop {
        let left = command.timeout.saturating_sub(began.elapsed()).max(PAUSE);
        let Some(problem) = client.why_not_ready(left).await else { break };
        if began.elapsed() + PAUSE > command.timeout {
            let message = format!(
                "{address} is not ready after {}: {problem}",
                humantime::format_duration(command.timeout)
            );
            return Err(Failure::Worded { exit: Exit::Away, code: "away".to_owned(), message });
        }
        tokio::time::sleep(PAUSE).await;
    }
    let waited = began.elapsed().as_secs_f64();
    output::print(command.output, &json!({ "status": "ok", "waited_seconds": waited }), || {
        "ready".to_owned()
    })?;
    Ok(Exit::Done)
}
