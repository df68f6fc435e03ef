//! Rehearsals of a migration on one schema.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::client::Client;
use super::named::not_found;
use crate::app::Backend;
use crate::cli::Failure;
use crate::domain::names::{SchemaName, TenantId};
use crate::service::fleet::{RehearsalTarget, Trial, TrialEnd, outcome_of};

/// What a migration would do to one schema, as programs read it.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct RehearsalView {
    /// The schema; null if no tenant is behind.
    pub(in crate::cli) schema: Option<String>,
    /// The files that would be applied; null if one would fail.
    pub(in crate::cli) applied: Option<Vec<String>>,
    /// Which file would fail, and why.
    pub(in crate::cli) error: Option<String>,
    /// The result of each file.
    pub(in crate::cli) migrations: Vec<TrialView>,
    /// Why no new tenant can be made from all files.
    pub(in crate::cli) new_tenant: Option<String>,
}

/// The result of one file.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct TrialView {
    pub(in crate::cli) file: String,
    /// `applied`, `failed` or `not_reached`.
    pub(in crate::cli) state: String,
    pub(in crate::cli) duration_ms: Option<f64>,
    line: Option<usize>,
    error: Option<String>,
}

/// What a server answers.
#[derive(Deserialize)]
struct Answer {
    new_tenant_error: Option<String>,
    tenant_id: Option<Uuid>,
    vacancy_id: Option<Uuid>,
    migrations: Vec<TrialView>,
}

/// Rehearses on a database.
pub(in crate::cli) async fn rehearse_here(
    backend: &Backend,
    target: RehearsalTarget,
) -> Result<RehearsalView, Failure> {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let rehearsed = fleet.rehearse(&ctx, target).await?;
    let new_tenant = fleet.why_no_new_tenants(&ctx).await?;
    let schema = rehearsed.as_ref().map(|rehearsal| rehearsal.schema.to_string());
    let trials = rehearsed.map(|rehearsal| rehearsal.trials).unwrap_or_default();
    Ok(RehearsalView::new(schema, trials, new_tenant))
}

impl Client {
    /// Has the server rehearse with its own files.
    pub(in crate::cli) async fn rehearse(
        &self,
        target: RehearsalTarget,
    ) -> Result<RehearsalView, Failure> {
        let (body, named) = match target {
            RehearsalTarget::FirstBehind => (json!({}), String::new()),
            RehearsalTarget::Tenant(named) => (json!({ "tenant": named }), named),
            RehearsalTarget::Vacancy => (json!({ "vacancy": true }), String::new()),
        };
        let request = self.control(Method::POST, &["rehearsals"], &[]).json(&body);
        let answered = self.answer::<Answer>(request).await;
        let answer = answered.map_err(|failure| not_found(failure, &named))?.body;
        let id = answer.tenant_id.or(answer.vacancy_id);
        let schema = id.map(|id| SchemaName::of(TenantId::new(id)).to_string());
        let trials = answer.migrations.into_iter().map(Trial::from).collect();
        Ok(RehearsalView::new(schema, trials, answer.new_tenant_error))
    }
}

impl RehearsalView {
    fn new(schema: Option<String>, trials: Vec<Trial>, new_tenant: Option<String>) -> Self {
        let (applied, error) = match outcome_of(&trials) {
            Ok(files) => (Some(files), None),
            Err(reason) => (None, Some(reason)),
        };
        let migrations = trials.into_iter().map(TrialView::from).collect();
        Self { schema, applied, error, migrations, new_tenant }
    }
}

impl From<Trial> for TrialView {
    fn from(Trial { file, end }: Trial) -> Self {
        let (state, duration_ms, line, error) = match end {
            TrialEnd::Applied(took) => ("applied", Some(took.as_secs_f64() * 1000.0), None, None),
            TrialEnd::Failed { line, message } => ("failed", None, line, Some(message)),
            TrialEnd::NotReached => ("not_reached", None, None, None),
        };
        Self { file, state: state.to_owned(), duration_ms, line, error }
    }
}

impl From<TrialView> for Trial {
    fn from(view: TrialView) -> Self {
        let took = view.duration_ms.unwrap_or_default() / 1000.0;
        let took = std::time::Duration::try_from_secs_f64(took).unwrap_or_default();
        let end = match view.state.as_str() {
            "applied" => TrialEnd::Applied(took),
            "failed" => {
                TrialEnd::Failed { line: view.line, message: view.error.unwrap_or_default() }
            }
            _ => TrialEnd::NotReached,
        };
        Self { file: view.file, end }
    }
}
