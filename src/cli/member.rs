//! `member`: list, add, set-role, remove.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::failure::Arguments;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output, password};
use crate::app::Backend;
use crate::cli::Program;
use crate::domain::error::{Error, Noun};
use crate::domain::names::{Email, NewPassword, PersonName, UserId};
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::domain::{Role, error::Conflict};
use crate::service::members::{Member, NewMember, NewPerson};

/// The number of rows of one query.
const ROWS_AT_ONCE: u16 = 1000;

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the members of a tenant, the earliest first
    List {
        /// The slug or the id of the tenant
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
    /// Add a user to a tenant
    Add(Add),
    /// Change the role of a member; the last admin keeps the role
    SetRole {
        #[command(flatten)]
        which: Which,
        /// ADMIN, FDE or VIEWER
        #[arg(ignore_case = true, hide_possible_values = true, value_parser = roles())]
        role: Role,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a member from a tenant, with immediate effect; the user itself is kept
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
}

/// The member of a command.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The slug or the id of the tenant
    tenant: String,
    /// The member's e-mail address or user id
    member: String,
}

const PASSWORD_HELP: &str = "\
With --first-name and --last-name, a user is created if none has the e-mail address. The password is never an \
argument: it is read from stdin (--password-stdin), else from a prompt if there is a terminal. If a user with the \
e-mail address exists, that user becomes the member and keeps the password; a user whose address is not proven gets \
this password instead, and their sessions and tokens end.";

#[derive(Debug, Args)]
#[command(after_help = PASSWORD_HELP)]
pub(super) struct Add {
    /// The slug or the id of the tenant
    tenant: String,
    /// The user's e-mail address
    email: String,
    /// ADMIN, FDE or VIEWER
    #[arg(long, ignore_case = true, hide_possible_values = true, value_parser = roles())]
    role: Role,
    /// Create the user, with this given name
    #[arg(long, value_name = "NAME", requires = "last_name")]
    first_name: Option<String>,
    /// Create the user, with this family name
    #[arg(long, value_name = "NAME", requires = "first_name")]
    last_name: Option<String>,
    /// Read the new user's password from the first line of stdin
    #[arg(long, requires = "first_name")]
    password_stdin: bool,
    #[command(flatten)]
    output: Output,
}

/// A member as programs read it; the names are those of the HTTP API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    user_id: String,
    email: String,
    first_name: String,
    last_name: String,
    role: Role,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A member, as named on the command line.
enum Named {
    Id(UserId),
    Email(Email),
}

/// Accepts the roles that a member can have; `SUPER_ADMIN` is a global role.
pub(super) fn roles() -> impl TypedValueParser<Value = Role> {
    let words = Role::ALL.iter().filter(|role| **role != Role::SuperAdmin);
    PossibleValuesParser::new(words.map(|role| role.as_str())).try_map(|name| name.parse())
}

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List { tenant, output } => list(settings, &tenant, output).await,
        Verb::Add(command) => add(settings, command).await,
        Verb::SetRole { which, role, output } => set_role(settings, &which, role, output).await,
        Verb::Remove { which, output } => remove(settings, &which, output).await,
    }
}

async fn list(settings: &Program, tenant: &str, output: Output) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    let members = output::on_control_plane(settings, async |backend| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let window = Window { after, limit: ROWS_AT_ONCE };
            let page = backend.services.members.list(&backend.operator(), tenant, &window).await;
            let page = page.map_err(|error| refused(error, tenant, ""))?;
            all.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    })
    .await?;
    let views: Vec<MemberView> = members.into_iter().map(MemberView::from).collect();
    let row = |view: &MemberView| {
        vec![
            view.email.clone(),
            view.user_id.clone(),
            view.role.to_string(),
            output::time(view.created_at),
            format!("{} {}", view.first_name, view.last_name),
        ]
    };
    let header = ["EMAIL", "USER ID", "ROLE", "SINCE", "NAME"];
    output::print_list(output, &views, &header, row, "the tenant has no members")?;
    Ok(Exit::Done)
}

async fn add(settings: &Program, command: Add) -> Result<Exit, Failure> {
    tenant_ref(&command.tenant)?;
    let new = read_command(&command).await?;
    let member = output::on_control_plane(settings, async |backend| {
        let added = backend.services.members.add(&backend.operator(), &command.tenant, &new).await;
        added.map_err(|error| refused(error, &command.tenant, new.email.as_ref()))
    })
    .await?;
    show(command.output, member)
}

/// Parses the arguments and reports every invalid one before it reads a password.
async fn read_command(command: &Add) -> Result<NewMember, Failure> {
    let mut arguments = Arguments::default();
    let email = arguments.read("the e-mail address", &command.email, Email::parse);
    let names =
        command.first_name.as_deref().zip(command.last_name.as_deref()).map(|(first, last)| {
            let first = arguments.read("--first-name", first, PersonName::parse);
            let last = arguments.read("--last-name", last, PersonName::parse);
            first.zip(last)
        });
    let email = arguments.finish(email)?;
    let person = match names.flatten() {
        None => None,
        Some((first_name, last_name)) => {
            let given = password::of_member(command.password_stdin).await?;
            let mut arguments = Arguments::default();
            let password =
                arguments.read("the member's password", given.expose_secret(), NewPassword::parse);
            let password = arguments.finish(password)?;
            Some(NewPerson { password, first_name, last_name })
        }
    };
    Ok(NewMember { email, role: command.role, person })
}

async fn set_role(
    settings: &Program,
    which: &Which,
    role: Role,
    output: Output,
) -> Result<Exit, Failure> {
    let named = which.read()?;
    let member = output::on_control_plane(settings, async |backend| {
        let user = which.find(backend, &named).await?;
        let members = &backend.services.members;
        let changed = members.set_role(&backend.operator(), &which.tenant, user, role).await;
        changed.map_err(|error| refused(error, &which.tenant, &which.member))
    })
    .await?;
    show(output, member)
}

async fn remove(settings: &Program, which: &Which, output: Output) -> Result<Exit, Failure> {
    let named = which.read()?;
    let user = output::on_control_plane(settings, async |backend| {
        let user = which.find(backend, &named).await?;
        let removed =
            backend.services.members.remove(&backend.operator(), &which.tenant, user).await;
        removed.map_err(|error| refused(error, &which.tenant, &which.member))?;
        Ok(user)
    })
    .await?;
    if output.json {
        let gone = json!({ "userId": user.uuid(), "removed": true });
        output::print(output, &gone, String::new)?;
    } else {
        output::say(&format!("removed {} from {}", which.member, which.tenant));
    }
    Ok(Exit::Done)
}

fn show(output: Output, member: Member) -> Result<Exit, Failure> {
    let view = MemberView::from(member);
    output::print(output, &view, || {
        let rows = [
            ("user id", view.user_id.clone()),
            ("email", view.email.clone()),
            ("first name", view.first_name.clone()),
            ("last name", view.last_name.clone()),
            ("role", view.role.to_string()),
            ("since", output::time(view.created_at)),
        ];
        output::table(None, rows.map(|(key, value)| vec![key.to_owned(), value]))
    })?;
    Ok(Exit::Done)
}

/// Names the tenant and the member in an error.
fn refused(error: Error, tenant: &str, member: &str) -> Failure {
    match error {
        Error::NotFound(Noun::Member) => {
            Failure::Other(format!("tenant {tenant} has no such member: {member}"))
        }
        Error::Conflict(Conflict::AlreadyMember) => {
            Failure::Other(format!("{member} is already a member of {tenant}"))
        }
        Error::Invalid(problems) if problems.iter().any(|p| p.rule == Rule::UnknownUser) => {
            Failure::Other(format!(
                "no user has the e-mail address {member}; pass --first-name and --last-name to create one"
            ))
        }
        error => super::tenant::not_found(error, tenant),
    }
}

impl Which {
    /// Parses the arguments, before a database is opened.
    fn read(&self) -> Result<Named, Failure> {
        tenant_ref(&self.tenant)?;
        if let Ok(id) = self.member.parse() {
            return Ok(Named::Id(UserId::new(id)));
        }
        Email::parse(&self.member).map(Named::Email).map_err(|_rule| {
            Failure::usage(format!("{:?} is neither an e-mail address nor a user id", self.member))
        })
    }

    async fn find(&self, backend: &Backend, named: &Named) -> Result<UserId, Failure> {
        match named {
            Named::Id(id) => Ok(*id),
            Named::Email(email) => {
                let members = &backend.services.members;
                let found = members.find(&backend.operator(), &self.tenant, email).await;
                Ok(found.map_err(|error| refused(error, &self.tenant, &self.member))?.user)
            }
        }
    }
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.to_string(),
            email: member.email.to_string(),
            first_name: member.first_name.to_string(),
            last_name: member.last_name.to_string(),
            role: member.role,
            created_at: member.since,
        }
    }
}
