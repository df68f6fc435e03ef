//! `member`: list, add, set-role, remove.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

use super::control::{Control, MemberView, Target, Uses, not_found, on_control};
use super::failure::Arguments;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output, password};
use crate::domain::Role;
use crate::domain::names::{Email, NewPassword, PersonName};
use crate::domain::rule::Rule;
use crate::service::members::{NewMember, NewPerson};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse member add acme-corp ada@acme.com --role FDE
  rowhouse member set-role acme-corp ada@acme.com ADMIN
  rowhouse member remove acme-corp ada@acme.com";

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

/// A member, as named on the command line.
enum Named {
    Id(Uuid),
    Email(Email),
}

/// Accepts the roles that a member can have; `SUPER_ADMIN` is a global role.
pub(super) fn roles() -> impl TypedValueParser<Value = Role> {
    let words = Role::ALL.iter().filter(|role| **role != Role::SuperAdmin);
    PossibleValuesParser::new(words.map(|role| role.as_str())).try_map(|name| name.parse())
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List { tenant, output } => list(target, &tenant, output).await,
        Verb::Add(command) => add(target, command).await,
        Verb::SetRole { which, role, output } => set_role(target, &which, role, output).await,
        Verb::Remove { which, output } => remove(target, &which, output).await,
    }
}

async fn list(target: &Target, tenant: &str, output: Output) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    let views = on_control(target, Uses::ControlPlane, async |control| {
        let listed = control.list_members(tenant).await;
        listed.map_err(|failure| refused(failure, tenant, ""))
    })
    .await?;
    let row = |view: &MemberView| {
        vec![
            view.email.clone(),
            view.user_id.to_string(),
            view.role.clone(),
            output::time(view.created_at),
            format!("{} {}", view.first_name, view.last_name),
        ]
    };
    let header = ["EMAIL", "USER ID", "ROLE", "SINCE", "NAME"];
    output::print_list(output, &views, &header, row, "the tenant has no members")?;
    Ok(Exit::Done)
}

async fn add(target: &Target, command: Add) -> Result<Exit, Failure> {
    tenant_ref(&command.tenant)?;
    let new = read_command(&command).await?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let added = control.add_member(&command.tenant, &new).await;
        added.map_err(|failure| refused(failure, &command.tenant, new.email.as_ref()))
    })
    .await?;
    show(command.output, &view)
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
    target: &Target,
    which: &Which,
    role: Role,
    output: Output,
) -> Result<Exit, Failure> {
    let named = which.read()?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let user = which.find(control, &named).await?;
        let changed = control.set_role(&which.tenant, user, role).await;
        changed.map_err(|failure| refused(failure, &which.tenant, &which.member))
    })
    .await?;
    show(output, &view)
}

async fn remove(target: &Target, which: &Which, output: Output) -> Result<Exit, Failure> {
    let named = which.read()?;
    let user = on_control(target, Uses::ControlPlane, async |control| {
        let user = which.find(control, &named).await?;
        let removed = control.remove_member(&which.tenant, user).await;
        removed.map_err(|failure| refused(failure, &which.tenant, &which.member))?;
        Ok(user)
    })
    .await?;
    if output.json {
        let gone = json!({ "user_id": user, "removed": true });
        output::print(output, &gone, String::new)?;
    } else {
        output::say(&format!("removed {} from {}", which.member, which.tenant));
    }
    Ok(Exit::Done)
}

fn show(output: Output, view: &MemberView) -> Result<Exit, Failure> {
    output::print(output, view, || {
        let rows = [
            ("user id", view.user_id.to_string()),
            ("email", view.email.clone()),
            ("first name", view.first_name.clone()),
            ("last name", view.last_name.clone()),
            ("role", view.role.clone()),
            ("since", output::time(view.created_at)),
        ];
        output::table(None, rows.map(|(key, value)| vec![key.to_owned(), value]))
    })?;
    Ok(Exit::Done)
}

/// Names the tenant and the member in a failure.
fn refused(failure: Failure, tenant: &str, member: &str) -> Failure {
    match failure.code().as_str() {
        "member_not_found" => {
            failure.worded(format!("tenant {tenant} has no such member: {member}"))
        }
        "already_member" => failure.worded(format!("{member} is already a member of {tenant}")),
        _ if failure.breaks(Rule::UnknownUser) => Failure::Worded {
            exit: Exit::NotFound,
            code: "user_not_found".to_owned(),
            message: format!(
                "no user has the e-mail address {member}; pass --first-name and --last-name to create one"
            ),
        },
        _ => not_found(failure, tenant),
    }
}

impl Which {
    /// Parses the arguments, before a database is opened.
    fn read(&self) -> Result<Named, Failure> {
        tenant_ref(&self.tenant)?;
        if let Ok(id) = self.member.parse() {
            return Ok(Named::Id(id));
        }
        Email::parse(&self.member).map(Named::Email).map_err(|_rule| {
            Failure::usage(format!("{:?} is neither an e-mail address nor a user id", self.member))
        })
    }

    async fn find(&self, control: &Control, named: &Named) -> Result<Uuid, Failure> {
        match named {
            Named::Id(id) => Ok(*id),
            Named::Email(email) => {
                let found = control.find_member(&self.tenant, email).await;
                found.map_err(|failure| refused(failure, &self.tenant, &self.member))
            }
        }
    }
}
