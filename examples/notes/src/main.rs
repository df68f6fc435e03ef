//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    notes::application().main()
}
