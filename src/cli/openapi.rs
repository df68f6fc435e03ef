//! `openapi`: prints the document that `/openapi.json` serves. Needs no database and no settings.

use super::{Exit, Failure, output};
use crate::app;

pub(super) fn run() -> Result<Exit, Failure> {
    let document = app::openapi_document()
        .map_err(|error| Failure::Other(format!("cannot serialize the document: {error}")))?;
    output::data(&document)?;
    Ok(Exit::Done)
}
