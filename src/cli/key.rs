//! `key`: list, rotate, retire.

use clap::Subcommand;

use super::control::{KeyView, Target, Uses, on_control};
use super::{Exit, Failure, Output, output};
use crate::cli::Program;
use crate::domain::error::{Error, Noun};

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the keys, in the order in which they sign
    List(Output),
    /// Make a key that takes over; no token is refused on the way
    ///
    /// The new key is published at once and signs ten minutes later. The present one verifies until its last token has
    /// expired. Needs the secret key of the servers, from the settings or the data dir.
    Rotate(Output),
    /// End a key at once, because its private half may be known
    ///
    /// Every server refuses the tokens of the key within a minute; users renew them by their refresh cookies. A key that
    /// waits to sign takes over; without one, a server makes a new key when it notices.
    Retire {
        /// The id of the key, as listed
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Confirm that the tokens of the key are to be refused from now on
        #[arg(long, required = true)]
        now: bool,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(output) => list(target, output).await,
        Verb::Rotate(output) => rotate(target, output).await,
        Verb::Retire { kid, now: _, output } => {
            retire(target.database("key retire")?, &kid, output).await
        }
    }
}

async fn list(target: &Target, output: Output) -> Result<Exit, Failure> {
    let views =
        on_control(target, Uses::ControlPlane, async |control| control.list_keys().await).await?;
    let row = |view: &KeyView| {
        vec![
            view.kid.clone(),
            view.state.clone(),
            output::time(view.created_at),
            output::time(view.signs_from),
            view.verifies_until.map_or_else(|| "-".to_owned(), output::time),
        ]
    };
    let header = ["KID", "STATE", "CREATED AT", "SIGNS FROM", "VERIFIES UNTIL"];
    output::print_list(output, &views, &header, row, "no keys; the first server makes one")?;
    Ok(Exit::Done)
}

async fn rotate(target: &Target, output: Output) -> Result<Exit, Failure> {
    let (view, is_new) =
        on_control(target, Uses::ControlPlane, async |control| control.rotate_keys().await).await?;
    let signs_from = output::time(view.signs_from);
    if output.json {
        output::print(output, &view, String::new)?;
    } else if is_new {
        output::say(&format!("key {} is published now and signs from {signs_from}", view.kid));
    } else {
        output::say(&format!("key {} waits already and signs from {signs_from}", view.kid));
    }
    Ok(Exit::Done)
}

async fn retire(settings: &Program, kid: &str, output: Output) -> Result<Exit, Failure> {
    let retirement = output::on_control_plane(settings, async |backend| {
        match backend.services.signing_keys.retire(&backend.operator(), kid).await {
            Err(Error::NotFound(Noun::SigningKey)) => {
                let missing = Failure::from(Error::NotFound(Noun::SigningKey));
                Err(missing.worded(format!("no such key: {kid}")))
            }
            retired => Ok(retired?),
        }
    })
    .await?;
    let has_successor = retirement.has_successor;
    let view = KeyView::from(retirement.key);
    if output.json {
        output::print(output, &view, String::new)?;
        return Ok(Exit::Done);
    }
    output::say(&format!("key {kid} has ended; every server refuses its tokens within a minute"));
    if !has_successor {
        output::say("no key is left that signs; the first server that notices makes one");
    }
    Ok(Exit::Done)
}
