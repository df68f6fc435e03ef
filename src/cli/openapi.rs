//! `openapi`: prints the document that `/openapi.json` serves, or a part of it. Needs no database and no settings.

use clap::{Args, ValueEnum};

use super::{Exit, Failure, Program, output};
use crate::app;

/// The flags of `openapi`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Only the operations with this tag, such as control
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// The version of the specification; some generators need the older one
    #[arg(long, value_name = "VERSION", default_value = "3.1")]
    openapi: Version,
}

/// A version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.0")]
    V3_0,
}

pub(super) fn run(program: &Program, flags: &Flags) -> Result<Exit, Failure> {
    let (tag, in_3_0) = (flags.tag.as_deref(), flags.openapi == Version::V3_0);
    let document = app::openapi_document(&program.options, tag, in_3_0)
        .map_err(|error| Failure::usage(format!("--tag: {error}")))?;
    output::data(&document)?;
    Ok(Exit::Done)
}
