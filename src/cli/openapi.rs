//! `openapi`: prints the document that `/openapi.json` serves. Needs no database and no settings.

use super::{Exit, Failure, Program, output};
use crate::app;

pub(super) fn run(program: &Program) -> Result<Exit, Failure> {
    let document = app::openapi_document(&program.options)
        .map_err(|error| Failure::Other(format!("cannot serialize the document: {error}")))?;
    output::data(&document)?;
    Ok(Exit::Done)
}
