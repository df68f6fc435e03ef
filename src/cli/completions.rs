//! `completions`: prints a completion script for a shell. Needs no database and no settings.

use clap_complete::Shell;

use super::{Exit, Failure, output};

pub(super) fn run(mut grammar: clap::Command, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let name = grammar.get_name().to_owned();
    clap_complete::generate(shell, &mut grammar, name, &mut script);
    output::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
