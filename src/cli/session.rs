//! `session`: list, revoke.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{Exit, Failure, Output, output};
use crate::cli::Program;
use crate::domain::error::{Error, Noun};
use crate::domain::names::{Email, UserId};
use crate::domain::page::Window;
use crate::service::sessions::{Session, UserRef};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse session list ada@acme.com
  rowhouse session revoke ada@acme.com
  rowhouse session revoke ada@acme.com --session 0190d3a8-5c1e-7b60-9d4e-3f6a2b1c0d9e";

/// The number of rows of one query.
const ROWS_AT_ONCE: u16 = 1000;

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the sessions of a user that have not ended, the latest log-in first
    List {
        /// The user's e-mail address or id
        user: String,
        #[command(flatten)]
        output: Output,
    },
    /// End the sessions of a user, with immediate effect; password, tokens and API keys stay
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The user's e-mail address or id
    user: String,
    /// End only the session with this id, as listed
    #[arg(long, value_name = "ID")]
    session: Option<uuid::Uuid>,
    #[command(flatten)]
    output: Output,
}

/// A session as programs read it; the names are those of the HTTP API.
#[derive(Debug, Serialize)]
struct SessionView {
    id: String,
    client: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List { user, output } => list(settings, &user, output).await,
        Verb::Revoke(command) => revoke(settings, &command).await,
    }
}

async fn list(settings: &Program, user: &str, output: Output) -> Result<Exit, Failure> {
    let which = read_user(user)?;
    let sessions = output::on_control_plane(settings, async |backend| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let window = Window { after, limit: ROWS_AT_ONCE };
            let sessions = &backend.services.sessions;
            let page = sessions.list_of(&backend.operator(), &which, &window).await;
            let page = page.map_err(|error| refused(error, user))?;
            all.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    })
    .await?;
    let views: Vec<SessionView> = sessions.into_iter().map(SessionView::from).collect();
    let row = |view: &SessionView| {
        vec![
            view.id.clone(),
            output::time(view.created_at),
            view.last_used_at.map_or_else(|| "unknown".to_owned(), output::time),
            output::time(view.expires_at),
            view.client.clone().unwrap_or_else(|| "unknown".to_owned()),
        ]
    };
    let header = ["ID", "LOGGED IN AT", "LAST USED AT", "EXPIRES AT", "CLIENT"];
    output::print_list(output, &views, &header, row, "the user has no sessions")?;
    Ok(Exit::Done)
}

async fn revoke(settings: &Program, command: &Revoke) -> Result<Exit, Failure> {
    let which = read_user(&command.user)?;
    let ended = output::on_control_plane(settings, async |backend| {
        let sessions = &backend.services.sessions;
        let ended = sessions.revoke_of(&backend.operator(), &which, command.session).await;
        ended.map_err(|error| refused(error, &command.user))
    })
    .await?;
    if command.output.json {
        output::print(command.output, &json!({ "sessions_ended": ended }), String::new)?;
    } else {
        let sessions = if ended == 1 { "session" } else { "sessions" };
        output::say(&format!("ended {ended} {sessions} of {}", command.user));
    }
    Ok(Exit::Done)
}

/// Parses the user, before a database is opened.
fn read_user(given: &str) -> Result<UserRef, Failure> {
    if let Ok(id) = given.parse() {
        return Ok(UserRef::Id(UserId::new(id)));
    }
    Email::parse(given).map(UserRef::Email).map_err(|_rule| {
        Failure::usage(format!("{given:?} is neither an e-mail address nor a user id"))
    })
}

/// Names the user in an error.
fn refused(error: Error, user: &str) -> Failure {
    let words = match error {
        Error::NotFound(Noun::User) => format!("no such user: {user}"),
        Error::NotFound(Noun::Session) => format!("{user} has no such session, or it has ended"),
        error => return error.into(),
    };
    Failure::from(error).worded(words)
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.to_string(),
            client: Some(session.client).filter(|client| !client.is_empty()),
            created_at: session.opened_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
        }
    }
}
