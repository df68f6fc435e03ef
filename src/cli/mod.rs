//! The grammar of the command line: nouns, verbs and flags, and the file that runs each. A noun with many verbs has
//! their flags in its own file.
//!
//! Promises: data goes to stdout and everything else to stderr; no command prompts without a terminal; the exit code
//! tells a script what to do next ([`Exit`]). A verb parses its arguments, opens a [`Backend`](crate::app::Backend)
//! for the least purpose that suffices, calls one service method as the operator and prints the result. Must not
//! know: SQL, HTTP.
//!
//! To add a verb: a variant here or in the file of its noun, a function in that file, a test in
//! `tests/api/cli.rs` or in `cli_<noun>.rs` beside it.

mod admin;
mod adopt;
mod archive;
mod archive_file;
mod archive_import;
mod audit;
mod change;
mod cluster;
mod completions;
mod confirm;
mod control;
mod copies;
mod destroy;
mod doctor;
mod end;
mod ensure;
mod entry;
mod events;
mod exit;
mod failure;
mod files;
mod healthcheck;
mod import;
mod invite;
mod key;
mod lifecycle;
mod lint;
mod man;
mod member;
mod migrate;
mod moment;
mod openapi;
mod output;
mod password;
mod program;
mod serve;
mod server_flags;
mod session;
mod setting_flags;
mod stop;
mod stored;
mod tenant;
#[cfg(feature = "embedded-postgres")]
mod testing;
mod token;
mod vacancies;
mod wait;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use self::control::{Connection, Target};
use self::server_flags::{ServerFlags, target};
use self::setting_flags::SettingFlags;
use crate::config::{Own, Settings};
use crate::domain::{Permission, TokenKind};

pub use control::Refusal;
pub use entry::{Grammar, OwnCommands, main};
pub use exit::Exit;
pub use failure::Failure;
pub use program::Program;

const ENVIRONMENT: &str = "\
Every setting can also be given in the environment (ROWHOUSE_<SECTION>__<KEY>) or in rowhouse.toml. A flag \
overrides the environment; the environment overrides the file. docs/settings.md lists all of them.

With --server, a verb works through the control API of a server and not on a database; its output is the same. The token \
comes from --token-file, ROWHOUSE_TOKEN or the file that ROWHOUSE_TOKEN_FILE names.

Exit codes: 0 done, 1 failed, 2 invalid arguments or settings, 3 partly done, 4 not found, 5 conflict, 6 denied, 7 the \
server or the database is away. With --json, a failure is {\"error\": {\"code\", \"message\", ..}} on stderr.";

/// A schema-per-tenant SaaS backend for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "rowhouse", version, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server; the default without a command
    Serve,
    /// Migrate the control plane and then every tenant
    Migrate(migrate::Migrate),
    /// Check the database, and repair what can be repaired safely
    ///
    /// Compares every tenant's schema, role and privileges with what the migrations create; tests whether one tenant
    /// can access another; names schemas and roles that belong to no tenant; warns before the server runs out of
    /// locks, connections or memory. Exits with 0 if no problem is found (a warning is not a problem), with 1 if one is found,
    /// with 3 if only some problems were repaired.
    Doctor(Examine),
    /// Create, list, show, change and delete tenants
    #[command(subcommand, after_help = TENANT_EXAMPLES)]
    Tenant(TenantVerb),
    /// List and change the members of a tenant and their roles
    #[command(subcommand, after_help = MEMBER_EXAMPLES)]
    Member(member::Verb),
    /// Invite people to a tenant, list and revoke invitations
    #[command(subcommand, after_help = INVITE_EXAMPLES)]
    Invite(invite::Verb),
    /// List audit events, and check that none was changed or removed
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Audit(audit::Verb),
    /// List events, and follow them: what happened to tenants, members, tokens and migrations, in order
    #[command(subcommand, after_help = EVENTS_EXAMPLES)]
    Events(events::Verb),
    /// List, show, fetch, verify and delete the archives that the server keeps, and list their imports
    #[command(subcommand, after_help = stored::HELP)]
    Archive(stored::Verb),
    /// Create, list, rotate and revoke API tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// List the sessions of a user, and end them
    #[command(subcommand, after_help = SESSION_EXAMPLES)]
    Session(session::Verb),
    /// List, rotate and retire the keys that sign access tokens
    #[command(subcommand)]
    Key(key::Verb),
    /// Show how many schemas are prepared in advance, and how old the oldest is
    ///
    /// A server keeps a stock of such vacancies (tenants.vacancies), so that a set-up takes one instead of creating a
    /// schema. A stale vacancy has older migrations and is migrated by a server with newer ones; a vacancy that is
    /// ahead has newer migrations than this program.
    #[command(args_conflicts_with_subcommands = true)]
    Vacancies {
        #[command(subcommand)]
        verb: Option<VacancyVerb>,
        #[command(flatten)]
        output: Output,
    },
    /// Show the nodes of a Citus cluster and what is on them, and place tenants on them
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Ask the server at the listen address whether it is ready; exits with 0 if it is, else with 1
    Healthcheck(Output),
    /// Wait until a server is ready: that of --server, else that at the listen address; exits with 7 if it is not in time
    Wait(wait::Wait),
    /// Start servers for tests that are not written in Rust
    #[cfg(feature = "embedded-postgres")]
    #[command(subcommand)]
    Testing(testing::Verb),
    /// Print the OpenAPI document, or a part of it
    Openapi(openapi::Flags),
    /// Print the manual page
    Man(man::Man),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct Examine {
    /// Check only this tenant, by slug or id; repeat it for more than one
    #[arg(long = "tenant", value_name = "TENANT", num_args = 1..)]
    tenants: Vec<String>,
    /// Repair roles, owners, privileges and recorded versions, and revoke privileges that no migration grants;
    /// structure and data are not changed
    #[arg(long)]
    fix: bool,
    /// Drop these schemas and roles that belong to no tenant, with their contents; without a name, all of them
    #[arg(long, requires = "fix", requires = "yes", conflicts_with = "tenants", num_args = 0.., value_name = "NAME")]
    drop_orphans: Option<Vec<String>>,
    /// Drop without a confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TenantVerb {
    /// Create a tenant with its schema, its tables and its admin; if a step fails, nothing is created
    Create(CreateTenant),
    /// Make tenants of schemas that another tool made, such as django-tenants or apartment
    ///
    /// The schema is renamed, gets a role, an owner and rights like that of any tenant, and a history of the migrations
    /// that it has. It must equal what they make.
    #[command(after_help = ADOPT_EXAMPLES)]
    Adopt(adopt::Adopt),
    /// Create the tenant with an external id, or make it as the command says; safe to repeat
    #[command(after_help = ensure::HELP)]
    Ensure(Box<ensure::Ensure>),
    /// Make a tenant of the data of another one, for staging
    #[command(after_help = copies::CLONE_HELP)]
    Clone(copies::Clone),
    /// Write the data of a tenant to an archive, which `import` makes a tenant of, here or elsewhere
    #[command(after_help = archive::EXPORT_HELP)]
    Export(archive::Export),
    /// Make the tenants of a CSV file, each as `ensure` does; with --slug, make a tenant of an archive; with --into, put the
    /// archive in place of what a tenant has
    #[command(after_help = import::HELP)]
    Import(Box<import::Import>),
    /// List tenants, oldest first
    List(tenant::List),
    /// Show one tenant
    Show {
        #[command(flatten)]
        which: tenant::Which,
        #[command(flatten)]
        output: Output,
    },
    /// Exchange what is in two tenants; ids, slugs, members and tokens stay where they are
    #[command(after_help = copies::SWAP_HELP)]
    Swap(copies::Swap),
    /// Move a tenant to another node of a Citus cluster; its requests are answered meanwhile
    Move(cluster::Move),
    #[command(flatten)]
    Change(lifecycle::Verb),
}

const TENANT_EXAMPLES: &str = "\
Examples:
  rowhouse tenant show acme-corp --json
  rowhouse tenant rename acme-corp --name 'Acme Ltd' --slug acme
  echo '{\"plan\": \"pro\"}' | rowhouse tenant settings acme --patch -
  rowhouse tenant suspend --external-id crm-4711
  rowhouse tenant delete acme --yes";

const ADOPT_EXAMPLES: &str = "\
Examples:
  rowhouse tenant adopt --schema acme --slug acme --dry-run
  rowhouse tenant adopt --schema acme --slug acme --stamp V12 --admin-email ada@acme.com
  rowhouse tenant adopt --from-file tenants.csv --keep-extra";

const MEMBER_EXAMPLES: &str = "\
Examples:
  rowhouse member add acme-corp ada@acme.com --role FDE
  rowhouse member set-role acme-corp ada@acme.com ADMIN
  rowhouse member remove acme-corp ada@acme.com";

const INVITE_EXAMPLES: &str = "\
Examples:
  rowhouse invite create acme-corp ada@acme.com --role FDE
  rowhouse invite list acme-corp
  rowhouse invite revoke acme-corp 0195a5b2-5c1e-7d3f-8a4b-1c2d3e4f5a6b";

const AUDIT_EXAMPLES: &str = "\
Examples:
  rowhouse audit list --tenant acme-corp --since 7d
  rowhouse audit list --action tenant.purge --limit 1000 --json
  rowhouse audit verify || echo 'the audit events were changed'";

const EVENTS_EXAMPLES: &str = "\
Examples:
  rowhouse events list --type 'tenant.*' --limit 1000
  rowhouse events follow --after now
  rowhouse events follow --json --after 4711 | while read -r event; do deliver \"$event\"; done";

const SESSION_EXAMPLES: &str = "\
Examples:
  rowhouse session list ada@acme.com
  rowhouse session revoke ada@acme.com
  rowhouse session revoke ada@acme.com --session 0190d3a8-5c1e-7b60-9d4e-3f6a2b1c0d9e";

const PASSWORD_HELP: &str = "\
The admin's password is never an argument, because every user of the machine can read command lines, and shells \
record them. It is read from stdin (--admin-password-stdin), else from ROWHOUSE_TENANT_ADMIN_PASSWORD or the file \
that ROWHOUSE_TENANT_ADMIN_PASSWORD_FILE names, else from a prompt if there is a terminal. If a user with the e-mail \
address exists, that user becomes the admin and keeps the password; a user whose address is not proven gets this \
password instead, and their sessions and tokens end.";

#[derive(Debug, Args)]
#[command(after_help = PASSWORD_HELP)]
struct CreateTenant {
    /// The display name
    #[arg(long)]
    name: String,
    /// The unique name in URLs: lower-case letters, digits and hyphens
    #[arg(long)]
    slug: String,
    /// The admin's e-mail address, which is also the login
    #[arg(long, value_name = "EMAIL")]
    admin_email: String,
    /// The admin's given name
    #[arg(long, value_name = "NAME")]
    admin_first_name: String,
    /// The admin's family name
    #[arg(long, value_name = "NAME")]
    admin_last_name: String,
    /// Read the admin's password from the first line of stdin
    #[arg(long)]
    admin_password_stdin: bool,
    /// Makes a retry safe for 24 hours: the same key and values return the same tenant
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    end: end::EndFlags,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Create a token and print it; it cannot be shown again
    Create(CreateToken),
    /// List all tokens and API keys, oldest first, without their secrets
    List {
        /// Only those of this kind; the own tokens of people are listed with their kind alone
        #[arg(long, value_name = "KIND", value_parser = token_kinds())]
        kind: Option<TokenKind>,
        #[command(flatten)]
        output: Output,
    },
    /// Give a token or an API key a new secret and print it; the id stays, and the old secret is good for a while
    Rotate {
        /// The id of the token, as listed; not the token itself
        id: uuid::Uuid,
        /// How long the old secret stays good, such as 12h, at most 30d; 0 ends it at once; by default as the settings say
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        overlap: Option<std::time::Duration>,
        /// How long the token is valid from now on, such as 30d; without it, it expires when it did before
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<std::time::Duration>,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a token and all that it made, with immediate effect; revoking it again changes nothing
    Revoke {
        /// The id of the token, as listed; not the token itself
        id: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum VacancyVerb {
    /// Migrate the vacancies, and create more up to the number in the settings
    Fill(Output),
    /// Drop all vacancies; a running server creates new ones
    Drop(Output),
}

#[derive(Debug, Args)]
struct CreateToken {
    /// The purpose of the token, for people
    #[arg(long)]
    name: String,
    /// A permission of the token; repeat it for more than one
    #[arg(long = "permission", value_name = "NAME", required = true, ignore_case = true, value_parser = permissions())]
    permissions: Vec<Permission>,
    /// How long the token is valid, such as 30d or 12h; without it, as long as the settings say, else for ever
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<std::time::Duration>,
    /// The only tenant that the token works in, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    output: Output,
}

fn permissions() -> impl TypedValueParser<Value = Permission> {
    PossibleValuesParser::new(Permission::ALL.iter().map(|permission| permission.as_str()))
        .try_map(|name| name.parse())
}

fn token_kinds() -> impl TypedValueParser<Value = TokenKind> {
    PossibleValuesParser::new(TokenKind::NAMES.iter().copied()).try_map(|name| name.parse())
}

impl Cli {
    /// Returns the settings of the command, and the server that it works on, if it does. One that works on a server reads
    /// no settings but those of the log.
    ///
    /// # Errors
    /// All invalid settings, at once; a server that cannot be one, or beside a database.
    fn prepare(&self, own: Own) -> Result<(Settings, Option<Connection>), Failure> {
        let connection = match &self.command {
            // Their output does not depend on settings.
            Some(Command::Openapi(_) | Command::Completions { .. } | Command::Man(_)) => {
                return Ok((Settings::from_values(&[])?, None));
            }
            // Its servers do not depend on settings either.
            #[cfg(feature = "embedded-postgres")]
            Some(Command::Testing(_)) => return Ok((Settings::from_values(&[])?, None)),
            None | Some(Command::Serve) => {
                self.server.refuse()?;
                None
            }
            Some(_) => self.server.connection(&self.settings)?,
        };
        let settings = match connection {
            Some(_) => Settings::from_values(&self.settings.of_the_log())?,
            None => Settings::load(&self.settings.overrides(own))?,
        };
        Ok((settings, connection))
    }

    /// Returns the log filter: a server logs what it does, a command prints it.
    fn log_filter<'a>(&self, settings: &'a Settings) -> &'a str {
        match &self.command {
            None | Some(Command::Serve) => &settings.log.filter,
            Some(_) => settings.log.filter_of_commands(),
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The failure, with a message for the user of the command.
    async fn run(
        self,
        program: Program,
        connection: Option<Connection>,
        grammar: clap::Command,
    ) -> Result<Exit, Failure> {
        let command = match self.command {
            None | Some(Command::Serve) => {
                let overrides = self.settings.overrides(program.options.own_settings());
                return Box::pin(serve::run(program, overrides)).await.map_err(Failure::of_server);
            }
            Some(command) => command,
        };
        let target = &target(connection, program);
        match command {
            // Begun above.
            Command::Serve => Ok(Exit::Done),
            Command::Migrate(migrate) => Box::pin(migrate::run(target, migrate)).await,
            Command::Doctor(command) => doctor::run(target.database("doctor")?, command).await,
            Command::Tenant(verb) => Box::pin(run_tenant(target, verb)).await,
            Command::Member(verb) => member::run(target, verb).await,
            Command::Invite(verb) => invite::run(target, verb).await,
            Command::Audit(verb) => audit::run(target, verb).await,
            Command::Events(verb) => events::run(target, verb).await,
            Command::Archive(verb) => Box::pin(stored::run(target, verb)).await,
            Command::Token(verb) => run_token(target, verb).await,
            Command::Session(verb) => session::run(target.database("session")?, verb).await,
            Command::Key(verb) => key::run(target, verb).await,
            Command::Vacancies { verb, output } => {
                let settings = target.database("vacancies")?;
                match verb {
                    None => vacancies::show(settings, output).await,
                    Some(VacancyVerb::Fill(output)) => vacancies::fill(settings, output).await,
                    Some(VacancyVerb::Drop(output)) => vacancies::drop_all(settings, output).await,
                }
            }
            Command::Cluster(verb) => cluster::run(target.database("cluster")?, verb).await,
            Command::Healthcheck(output) => healthcheck::run(target, output).await,
            Command::Wait(command) => wait::run(target, command).await,
            #[cfg(feature = "embedded-postgres")]
            Command::Testing(verb) => {
                let options = target.database("testing")?.options.clone();
                Box::pin(testing::run(options, &verb)).await
            }
            Command::Openapi(flags) => openapi::run(target.database("openapi")?, &flags),
            Command::Man(command) => man::run(grammar, &command),
            Command::Completions { shell } => completions::run(grammar, shell),
        }
    }
}

async fn run_tenant(target: &Target, verb: TenantVerb) -> Result<Exit, Failure> {
    match verb {
        TenantVerb::Create(command) => tenant::create(target, command).await,
        TenantVerb::Ensure(command) => ensure::run(target, *command).await,
        TenantVerb::Clone(flags) => copies::clone_tenant(target, flags).await,
        TenantVerb::Export(flags) => archive::export(target, flags).await,
        TenantVerb::Import(command) if command.archive.is_archive() => {
            let import::Import { file, archive, output, .. } = *command;
            // An id names an archive of the store, unless a file has this name.
            let id = file.to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|_| !file.exists()) {
                return archive_import::import_stored(target, id, archive, output).await;
            }
            match target {
                Target::Database(settings) => {
                    archive_import::import(settings, &file, archive, output).await
                }
                Target::Server(_) => {
                    archive_import::import_through_server(target, &file, archive, output).await
                }
            }
        }
        TenantVerb::Import(command) => import::run(target, *command).await,
        TenantVerb::Adopt(flags) => adopt::run(target.database("tenant adopt")?, flags).await,
        TenantVerb::List(command) => tenant::list(target, command).await,
        TenantVerb::Show { which, output } => tenant::show(target, &which, output).await,
        TenantVerb::Swap(flags) => copies::swap(target, flags).await,
        TenantVerb::Move(command) => {
            cluster::move_tenant(target.database("tenant move")?, command).await
        }
        TenantVerb::Change(verb) => lifecycle::run(target, verb).await,
    }
}

async fn run_token(target: &Target, verb: TokenVerb) -> Result<Exit, Failure> {
    match verb {
        TokenVerb::Create(command) => token::create(target, command).await,
        TokenVerb::List { kind, output } => token::list(target, kind, output).await,
        TokenVerb::Rotate { id, overlap, expires, output } => {
            token::rotate(target, id, overlap, expires, output).await
        }
        TokenVerb::Revoke { id, output } => token::revoke(target, id, output).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_can_precede_or_follow_its_verb_and_serve_is_the_default() {
        for line in [
            "rowhouse --listen 127.0.0.1:0",
            "rowhouse --listen 127.0.0.1:0 serve",
            "rowhouse serve --listen 127.0.0.1:0",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(cli.command, None | Some(Command::Serve)), "{line}");
            let overrides = cli.settings.overrides(Own::default());
            assert_eq!(overrides.values, [("listen", "127.0.0.1:0".to_owned())], "{line}");
        }
    }

    #[test]
    fn there_is_no_flag_that_takes_a_password() {
        let mut open = vec![Cli::command()];
        while let Some(command) = open.pop() {
            open.extend(command.get_subcommands().cloned());
            for flag in command.get_arguments() {
                let name = flag.get_long().unwrap_or_default();
                let takes_value = flag.get_action().takes_values();
                assert!(!(takes_value && name.contains("password")), "--{name} takes a value");
            }
        }
    }
}
