//! The verbs of `tenant`, and the file that runs each.

use clap::Subcommand;

use super::control::Target;
use super::{
    Exit, Failure, Output, adopt, archive, archive_import, cluster, copies, ensure, import,
    lifecycle, tenant,
};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse tenant show acme-corp --json
  rowhouse tenant rename acme-corp --name 'Acme Ltd' --slug acme
  echo '{\"plan\": \"pro\"}' | rowhouse tenant settings acme --patch -
  rowhouse tenant suspend --external-id crm-4711
  rowhouse tenant delete acme --yes";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a tenant with its schema, its tables and its admin; if a step fails, nothing is created
    Create(tenant::Create),
    /// Make tenants of schemas that another tool made, such as django-tenants or apartment
    ///
    /// The schema is renamed, gets a role, an owner and rights like that of any tenant, and a history of the migrations
    /// that it has. It must equal what they make.
    #[command(after_help = adopt::HELP)]
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

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(command) => tenant::create(target, command).await,
        Verb::Ensure(command) => ensure::run(target, *command).await,
        Verb::Clone(flags) => copies::clone_tenant(target, flags).await,
        Verb::Export(flags) => archive::export(target, flags).await,
        Verb::Import(command) if command.archive.is_archive() => {
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
        Verb::Import(command) => import::run(target, *command).await,
        Verb::Adopt(flags) => adopt::run(target.database("tenant adopt")?, flags).await,
        Verb::List(command) => tenant::list(target, command).await,
        Verb::Show { which, output } => tenant::show(target, &which, output).await,
        Verb::Swap(flags) => copies::swap(target, flags).await,
        Verb::Move(command) => cluster::move_tenant(target.database("tenant move")?, command).await,
        Verb::Change(verb) => lifecycle::run(target, verb).await,
    }
}
