//! `man`: prints the manual page, or writes one for each command. Needs no database and no settings.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Failure, output};

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this folder, such as rowhouse-tenant-ensure.1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(grammar: clap::Command, command: &Man) -> Result<Exit, Failure> {
    match &command.dir {
        Some(folder) => write_all(grammar, folder)?,
        None => output::data(render(grammar)?.trim_end())?,
    }
    Ok(Exit::Done)
}

fn render(command: clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command);
    man.render(&mut page).map_err(Failure::io("render a manual page"))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write_all(mut grammar: clap::Command, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(Failure::io("create the folder"))?;
    grammar.build();
    clap_mangen::generate_to(grammar, folder).map_err(Failure::io("write a manual page"))
}
