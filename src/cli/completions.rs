//! `completions`: prints a completion script for a shell. Needs no database and no settings.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, output};

pub(super) fn run(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rowhouse", &mut script);
    output::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
