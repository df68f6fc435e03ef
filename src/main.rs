//! The program without an application of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rowhouse::Application::new("rowhouse").main()
}
