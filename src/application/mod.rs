//! An application on the crate: what it adds, and its `main`.

use std::process::ExitCode;
use std::sync::Arc;

use actix_web::web;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::options::{ApplicationJob, Section};
use crate::app::{Context, Options};
use crate::cli::{self, Grammar, OwnCommands};
use crate::domain::Error;
use crate::http::Dialect;
use crate::http::native::Problem;
use crate::migrations::Migrations;
use crate::service::provisioning::{Hook, RunHook};
use crate::service::tenants::TenantTx;
use crate::telemetry::Registry;

/// An application: its tables, its routes and whatever else it adds to a server.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use actix_web::get;
/// use actix_web::web::{self, ServiceConfig};
/// use rowhouse::{Application, Problem, TenantTx};
///
/// #[derive(utoipa::OpenApi)]
/// #[openapi(paths(notes))]
/// struct ApiDoc;
///
/// #[utoipa::path(responses((status = 200, description = "The notes", body = Vec<String>)))]
/// #[get("/notes")]
/// async fn notes(tx: TenantTx) -> Result<web::Json<Vec<String>>, Problem> {
///     let rows = tx.query("SELECT body FROM notes ORDER BY id", &[]).await?;
///     Ok(web::Json(rows.iter().map(|row| row.get("body")).collect()))
/// }
///
/// fn main() -> ExitCode {
///     Application::new("notes")
///         .tenant_migrations(rowhouse::embed_migrations!("tenant_migrations").instead_of_built_in())
///         .routes::<ApiDoc>(|config: &mut ServiceConfig| {
///             config.service(notes);
///         })
///         .main()
/// }
/// ```
#[must_use = "an application does nothing until its `main` is called"]
pub struct Application {
    grammar: Grammar,
    options: Options,
}

impl Application {
    /// Creates an application. The name is that of its program.
    pub fn new(name: &'static str) -> Self {
        let grammar = Grammar { name, version: None, about: None, commands: Vec::new() };
        Self { grammar, options: Options::default() }
    }

    /// Sets what `--version` prints: `env!("CARGO_PKG_VERSION")`. Default: the version of this crate.
    pub fn version(mut self, version: &'static str) -> Self {
        self.grammar.version = Some(version);
        self
    }

    /// Sets the first line of `--help`.
    pub fn about(mut self, about: &'static str) -> Self {
        self.grammar.about = Some(about);
        self
    }

    /// Adds the migrations that every tenant gets, behind the built-in ones or
    /// [instead of them](Migrations::instead_of_built_in).
    pub fn tenant_migrations(mut self, migrations: Migrations) -> Self {
        self.options.tenant_migrations = Some(migrations);
        self
    }

    /// Adds the migrations of tables that all tenants share, in a schema of their own. A handler reaches them by
    /// `Read<SharedTx>` and `Write<SharedTx>`.
    pub fn public_migrations(mut self, migrations: Migrations) -> Self {
        self.options.public_migrations = Some(migrations);
        self
    }

    /// Serves only these dialects. The routes of the others answer 404 and are not in the `OpenAPI` document.
    pub fn dialects(mut self, dialects: impl IntoIterator<Item = Dialect>) -> Self {
        self.options.dialects = Some(dialects.into_iter().collect());
        self
    }

    /// Adds permissions, which a handler asks for by `tx.caller().require("NOTES_WRITE")`. The settings name the lowest
    /// role that holds each (`notes_write = "FDE"` in `[permissions]`); by default it is `ADMIN`.
    pub fn permissions(mut self, permissions: impl IntoIterator<Item = &'static str>) -> Self {
        self.options.permissions.extend(permissions);
        self
    }

    /// Adds routes, and their document to `/openapi.json` and `/docs`.
    pub fn routes<D: utoipa::OpenApi>(
        mut self,
        mount: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.options.documents.push(D::openapi());
        self.options.add_routes(Arc::new(mount));
        self
    }

    /// Adds routes that have no document.
    pub fn undocumented_routes(
        mut self,
        mount: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.options.add_routes(Arc::new(mount));
        self
    }

    /// Adds settings: `[app]` in `rowhouse.toml`, `APP__..` in the environment, for the section `app`. A handler reaches
    /// them as `web::Data<T>`, a job and a command by [`Context::settings`]. A key that the type does not have is an
    /// error at the start, which names it.
    pub fn settings<T>(mut self, section: &'static str) -> Self
    where
        T: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        self.options.sections.push(Section::of::<T>(section));
        self
    }

    /// Adds commands beside `serve`, `migrate`, `tenant` .. : a type that derives `clap::Subcommand`, and what runs it.
    pub fn command<C>(
        mut self,
        run: impl AsyncFn(C, Context) -> Result<(), Problem> + Clone + 'static,
    ) -> Self
    where
        C: clap::Subcommand + 'static,
    {
        self.grammar.commands.push(OwnCommands::of(move |command: C, context| {
            let run = run.clone();
            async move { run(command, context).await.map_err(|problem| problem.0) }.boxed_local()
        }));
        self
    }

    /// Adds a job, which runs again after `every` (`30s`, `1h`). Of all servers on the database one runs it at a time; if that
    /// one is killed, another does after half a minute.
    pub fn every<F>(
        mut self,
        name: &'static str,
        every: &'static str,
        run: impl Fn(Context) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        let run = Arc::new(move |context| {
            let running = run(context);
            async move { running.await.map_err(|problem| problem.0) }.boxed()
        });
        self.options.jobs.push(ApplicationJob { name, every, run });
        self
    }

    /// Adds what happens in each new tenant: in the transaction of its set-up, as the tenant. If it fails, the set-up
    /// fails as a whole, and the error names the function.
    pub fn on_tenant_created<H>(mut self, hook: H) -> Self
    where
        H: for<'a> TenantHook<'a>,
    {
        let name = std::any::type_name::<H>();
        self.options.hooks.push(Hook { name, run: run_hook(hook) });
        self
    }

    /// Adds metrics to `/metrics`.
    pub fn metrics(mut self, register: fn(&mut Registry)) -> Self {
        self.options.metrics.push(register);
        self
    }

    /// Runs the command line of the process: the server, its administration, and the application's own commands.
    #[must_use]
    pub fn main(self) -> ExitCode {
        cli::main(&self.grammar, self.options)
    }

    /// Returns what an `App` is built from without the command line.
    #[doc(hidden)]
    #[must_use]
    pub fn options(&self) -> Options {
        self.options.clone()
    }
}

/// Returns a hook in the form in which it is stored.
fn run_hook<H: for<'a> TenantHook<'a>>(hook: H) -> RunHook {
    fn coerce<F>(run: F) -> RunHook
    where
        F: for<'a> Fn(&'a TenantTx) -> BoxFuture<'a, Result<(), Error>> + Send + Sync + 'static,
    {
        Arc::new(run)
    }
    coerce(move |tx| {
        let running = hook.call(tx);
        async move { running.await.map_err(|problem| problem.0) }.boxed()
    })
}

/// A function that [`Application::on_tenant_created`] takes: `async fn(&TenantTx) -> Result<(), Problem>`.
pub trait TenantHook<'a>: Send + Sync + 'static {
    /// What the function returns.
    type Outcome: Future<Output = Result<(), Problem>> + Send + 'a;

    /// Calls the function.
    fn call(&self, tx: &'a TenantTx) -> Self::Outcome;
}

impl<'a, H, F> TenantHook<'a> for H
where
    H: Fn(&'a TenantTx) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Problem>> + Send + 'a,
{
    type Outcome = F;

    fn call(&self, tx: &'a TenantTx) -> F {
        self(tx)
    }
}
