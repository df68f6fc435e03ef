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
mod tenant_verb;
#[cfg(feature = "embedded-postgres")]
mod testing;
mod token;
mod vacancies;
mod wait;

use clap::{Args, Parser, Subcommand};

use self::control::Connection;
use self::server_flags::{ServerFlags, target};
use self::setting_flags::SettingFlags;
use crate::config::{Own, Settings};

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
    #[command(subcommand, after_help = tenant_verb::HELP)]
    Tenant(tenant_verb::Verb),
    /// List and change the members of a tenant and their roles
    #[command(subcommand, after_help = member::HELP)]
    Member(member::Verb),
    /// Invite people to a tenant, list and revoke invitations
    #[command(subcommand, after_help = invite::HELP)]
    Invite(invite::Verb),
    /// List audit events, and check that none was changed or removed
    #[command(subcommand, after_help = audit::HELP)]
    Audit(audit::Verb),
    /// List events, and follow them: what happened to tenants, members, tokens and migrations, in order
    #[command(subcommand, after_help = events::HELP)]
    Events(events::Verb),
    /// List, show, fetch, verify and delete the archives that the server keeps, and list their imports
    #[command(subcommand, after_help = stored::HELP)]
    Archive(stored::Verb),
    /// Create, list, rotate and revoke API tokens
    #[command(subcommand)]
    Token(token::Verb),
    /// List the sessions of a user, and end them
    #[command(subcommand, after_help = session::HELP)]
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
enum VacancyVerb {
    /// Migrate the vacancies, and create more up to the number in the settings
    Fill(Output),
    /// Drop all vacancies; a running server creates new ones
    Drop(Output),
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
            Command::Tenant(verb) => Box::pin(tenant_verb::run(target, verb)).await,
            Command::Member(verb) => member::run(target, verb).await,
            Command::Invite(verb) => invite::run(target, verb).await,
            Command::Audit(verb) => audit::run(target, verb).await,
            Command::Events(verb) => events::run(target, verb).await,
            Command::Archive(verb) => Box::pin(stored::run(target, verb)).await,
            Command::Token(verb) => token::run(target, verb).await,
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
