//! The grammar of the command line: nouns, verbs and flags, and which file answers to each. A noun with
//! many verbs keeps their flags in its own file.
//!
//! Promises: data goes to stdout and everything else to stderr; nothing is asked for where no terminal
//! is there to answer; the exit code tells a script what to do next ([`Exit`]). A verb parses what it was
//! given, opens a [`Backend`](crate::app::Backend) for as little as it needs, calls one service method
//! as the operator and prints the answer. Must not know: SQL, HTTP.
//!
//! To add a verb: a variant here or in the file of its noun, a function in that file, a test in
//! `tests/api/cli.rs` or in `cli_<noun>.rs` beside it.

mod audit;
mod completions;
mod confirm;
mod doctor;
mod failure;
mod healthcheck;
mod lifecycle;
mod lint;
mod member;
mod migrate;
mod openapi;
mod output;
mod password;
mod serve;
mod tenant;
mod token;
mod vacancies;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::config::{Overrides, Settings};
use crate::domain::Permission;

pub use failure::{Exit, Failure};

const ENVIRONMENT: &str = "\
Every setting can also stand in the environment (ROWHOUSE_<SECTION>__<KEY>) or in rowhouse.toml; a flag \
beats the environment, the environment beats the file. docs/settings.md lists all of them.

Exit codes: 0 done, 1 failed, 2 called wrongly (arguments or settings), 3 partly done.";

/// A schema-per-tenant SaaS backend for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "rowhouse", version, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The settings that have a flag, and work on every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, and backticks with them")]
struct SettingFlags {
    /// Read this file instead of rowhouse.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Address and port; port 0 picks a free one [env: ROWHOUSE_LISTEN]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// The owner's login; safer in the environment, since everybody on the machine can read command lines
    /// [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Where the embedded server and the generated secrets live [env: ROWHOUSE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// A folder that replaces the built-in tenant migrations [env: ROWHOUSE_TENANT_MIGRATIONS]
    #[arg(long, global = true, value_name = "DIR")]
    tenant_migrations: Option<String>,
    /// Tenants are found at <slug>.<this domain> [env: ROWHOUSE_BASE_DOMAIN]
    #[arg(long, global = true, value_name = "DOMAIN")]
    base_domain: Option<String>,
    /// text or json [env: ROWHOUSE_LOG__FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Such as info,rowhouse=debug [env: ROWHOUSE_LOG__FILTER]
    #[arg(long, global = true, value_name = "FILTER")]
    log_filter: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server; so does `rowhouse` alone
    Serve,
    /// Bring the control plane and then every tenant up to date
    Migrate(migrate::Migrate),
    /// Look whether everything is as it should be, and mend what can be mended safely
    ///
    /// Compares every tenant's schema with what the migrations make, its role and its rights; tries whether one
    /// tenant gets into another; names schemas and roles that are nobody's; warns before the server runs out
    /// of locks, connections or memory. Exits with 0 where nothing is wrong (warnings are not), with 1 where
    /// something is, with 3 where a part of it was mended.
    Doctor(Examine),
    /// Create tenants, look at them, change them, delete them
    #[command(subcommand, after_help = TENANT_EXAMPLES)]
    Tenant(TenantVerb),
    /// Say who belongs to a tenant, and as what
    #[command(subcommand, after_help = MEMBER_EXAMPLES)]
    Member(member::Verb),
    /// Read who did what, and check that nobody changed the record of it
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Audit(audit::Verb),
    /// Create, list and revoke API tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Show how many schemas are built ahead of time, and how old the oldest is
    ///
    /// A server keeps a stock of them (tenants.vacancies), so that a set-up takes one instead of building
    /// it. Stale ones are for other migrations and are brought up to date by a server that is ahead; those
    /// that are ahead are for a later version than this one.
    #[command(args_conflicts_with_subcommands = true)]
    Vacancies {
        #[command(subcommand)]
        verb: Option<VacancyVerb>,
        #[command(flatten)]
        output: Output,
    },
    /// Ask the server at the listen address whether it is ready; exits with 0 or 1
    Healthcheck(Output),
    /// Print the OpenAPI document
    Openapi,
    /// Print a script that completes these commands in a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct Examine {
    /// Look at this tenant alone, by slug or id; repeat it for more than one
    #[arg(long = "tenant", value_name = "TENANT", num_args = 1..)]
    tenants: Vec<String>,
    /// Put roles, owners, rights and recorded versions right, and take rights away that no migration gives;
    /// structure and data stay as they are
    #[arg(long)]
    fix: bool,
    /// Drop these schemas and roles that belong to no tenant, with all that is in them; all such without a name
    #[arg(long, requires = "fix", requires = "yes", conflicts_with = "tenants", num_args = 0.., value_name = "NAME")]
    drop_orphans: Option<Vec<String>>,
    /// Do not ask whether to drop
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
    /// Create a tenant with its schema, its tables and its admin, whole or not at all
    Create(CreateTenant),
    /// List all tenants, oldest first
    List(Output),
    /// Show one tenant
    Show {
        #[command(flatten)]
        which: tenant::Which,
        #[command(flatten)]
        output: Output,
    },
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

const MEMBER_EXAMPLES: &str = "\
Examples:
  rowhouse member add acme-corp ada@acme.com --role FDE
  rowhouse member set-role acme-corp ada@acme.com ADMIN
  rowhouse member remove acme-corp ada@acme.com";

const AUDIT_EXAMPLES: &str = "\
Examples:
  rowhouse audit list --tenant acme-corp --since 7d
  rowhouse audit list --action tenant.purge --limit 1000 --json
  rowhouse audit verify || echo 'somebody was here'";

const PASSWORD_HELP: &str = "\
The admin's password is never an argument: everybody on the machine can read command lines, and shells keep \
them. It is taken from stdin (--admin-password-stdin), else from ROWHOUSE_TENANT_ADMIN_PASSWORD, else asked \
for if a person sits at a terminal. Where the address belongs to a user already, that user becomes the admin \
and keeps the password that they have.";

#[derive(Debug, Args)]
#[command(after_help = PASSWORD_HELP)]
struct CreateTenant {
    /// The name that people read
    #[arg(long)]
    name: String,
    /// The unique name in addresses: lower-case letters, digits and hyphens
    #[arg(long)]
    slug: String,
    /// The admin's address, with which they log in
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
    /// Makes a retry safe for 24 hours: the same key and values answer with the same tenant
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Create a token and print it, this once
    Create(CreateToken),
    /// List all tokens, oldest first, without their secrets
    List(Output),
    /// End a token at once; twice is as good as once
    Revoke {
        /// The token's id, as listed; not the token
        id: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum VacancyVerb {
    /// Bring the stock up to date, and up to the number that the settings ask for
    Fill(Output),
    /// Tear all of them down; a running server builds new ones
    Drop(Output),
}

#[derive(Debug, Args)]
struct CreateToken {
    /// What it is for, in your words
    #[arg(long)]
    name: String,
    /// What it may do; repeat it for more than one
    #[arg(long = "permission", value_name = "NAME", required = true, ignore_case = true, value_parser = permissions())]
    permissions: Vec<Permission>,
    /// How long it is good, such as 30d or 12h; for ever without this
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<std::time::Duration>,
    /// The one tenant that it works in, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    output: Output,
}

fn permissions() -> impl TypedValueParser<Value = Permission> {
    PossibleValuesParser::new(Permission::ALL.iter().map(|permission| permission.as_str()))
        .try_map(|name| name.parse())
}

impl Cli {
    /// The settings that the command works with.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let settings = match &self.command {
            // What they print is the same under all settings.
            Some(Command::Openapi | Command::Completions { .. }) => Settings::from_values(&[])?,
            _ => Settings::load(&self.settings.overrides())?,
        };
        Ok(settings)
    }

    /// What to log: a server tells what it does, a command leaves that to its output.
    #[must_use]
    pub fn log_filter<'a>(&self, settings: &'a Settings) -> &'a str {
        match &self.command {
            None | Some(Command::Serve) => &settings.log.filter,
            Some(_) => settings.log.filter_of_commands(),
        }
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, in words for whoever typed the command.
    pub async fn run(self, settings: Settings) -> Result<Exit, Failure> {
        match self.command {
            None | Some(Command::Serve) => serve::run(settings).await,
            Some(Command::Migrate(migrate)) => migrate::run(&settings, migrate).await,
            Some(Command::Doctor(wish)) => doctor::run(&settings, wish).await,
            Some(Command::Tenant(TenantVerb::Create(wish))) => {
                tenant::create(&settings, wish).await
            }
            Some(Command::Tenant(TenantVerb::List(output))) => {
                tenant::list(&settings, output).await
            }
            Some(Command::Tenant(TenantVerb::Show { which, output })) => {
                tenant::show(&settings, &which, output).await
            }
            Some(Command::Tenant(TenantVerb::Change(verb))) => {
                lifecycle::run(&settings, verb).await
            }
            Some(Command::Member(verb)) => member::run(&settings, verb).await,
            Some(Command::Audit(verb)) => audit::run(&settings, verb).await,
            Some(Command::Token(TokenVerb::Create(wish))) => token::create(&settings, wish).await,
            Some(Command::Token(TokenVerb::List(output))) => token::list(&settings, output).await,
            Some(Command::Token(TokenVerb::Revoke { id, output })) => {
                token::revoke(&settings, id, output).await
            }
            Some(Command::Vacancies { verb: None, output }) => {
                vacancies::show(&settings, output).await
            }
            Some(Command::Vacancies { verb: Some(VacancyVerb::Fill(output)), .. }) => {
                vacancies::fill(&settings, output).await
            }
            Some(Command::Vacancies { verb: Some(VacancyVerb::Drop(output)), .. }) => {
                vacancies::drop_all(&settings, output).await
            }
            Some(Command::Healthcheck(output)) => healthcheck::run(&settings, output),
            Some(Command::Openapi) => openapi::run(),
            Some(Command::Completions { shell }) => completions::run(shell),
        }
    }
}

impl SettingFlags {
    fn overrides(&self) -> Overrides {
        let flags = [
            ("listen", &self.listen),
            ("database.url", &self.database_url),
            ("data_dir", &self.data_dir),
            ("tenant_migrations", &self.tenant_migrations),
            ("base_domain", &self.base_domain),
            ("log.format", &self.log_format),
            ("log.filter", &self.log_filter),
        ];
        let given = flags.into_iter().filter_map(|(key, flag)| Some((key, flag.clone()?)));
        Overrides { file: self.config.clone(), values: given.collect() }
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
    fn a_flag_stands_before_or_after_its_verb_and_alone_means_serve() {
        for line in [
            "rowhouse --listen 127.0.0.1:0",
            "rowhouse --listen 127.0.0.1:0 serve",
            "rowhouse serve --listen 127.0.0.1:0",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(cli.command, None | Some(Command::Serve)), "{line}");
            let overrides = cli.settings.overrides();
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
