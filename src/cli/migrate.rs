//! `migrate`: the control plane first, then every tenant that is behind, one after another.

use serde::Serialize;

use super::{Exit, Failure, Output, output};
use crate::app::{Backend, Purpose};
use crate::config::Settings;
use crate::service::fleet::Migrated;

/// What was done, tenant by tenant.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Files that were applied to the control plane.
    public: Vec<String>,
    tenants: Vec<TenantReport>,
    migrated_count: usize,
    failed_count: usize,
    /// Tenants that were not tried, because the database went away.
    left_count: usize,
}

#[derive(Debug, Serialize)]
struct TenantReport {
    id: String,
    slug: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn run(settings: &Settings, output: Output) -> Result<Exit, Failure> {
    let report = output::on_backend(Purpose::Migrate, settings, migrate).await?;
    output::print(output, &report, || report.to_string())?;
    Ok(if report.is_whole() { Exit::Done } else { Exit::Partly })
}

async fn migrate(backend: &Backend) -> Result<Report, Failure> {
    let services = &backend.services;
    let mut report = Report { public: backend.posture.applied.clone(), ..Report::default() };
    let behind = services.fleet.behind(&backend.operator()).await?;
    for (at, tenant) in behind.iter().enumerate() {
        let migrated = services.fleet.migrate(&backend.operator(), tenant).await?;
        output::say(&format!("[{}/{}] {}", at + 1, behind.len(), progress(&migrated)));
        let failed = migrated.outcome.is_err();
        report.add(migrated);
        // A tenant's own fault leaves the database answering. Without it the rest would fail one by
        // one, each after a long wait.
        if failed && services.health.ready().await.is_err() {
            report.left_count = behind.len() - at - 1;
            output::say("the database does not answer any more: stopped");
            break;
        }
    }
    Ok(report)
}

fn progress(migrated: &Migrated) -> String {
    match &migrated.outcome {
        Ok(applied) => format!("{}: applied {}", migrated.slug, applied.len()),
        Err(reason) => format!("{}: failed: {reason}", migrated.slug),
    }
}

impl Report {
    fn add(&mut self, migrated: Migrated) {
        let (applied, error) = match migrated.outcome {
            Ok(applied) => (Some(applied), None),
            Err(reason) => (None, Some(reason)),
        };
        self.migrated_count += usize::from(applied.is_some());
        self.failed_count += usize::from(error.is_some());
        let (id, slug) = (migrated.id.to_string(), migrated.slug.to_string());
        self.tenants.push(TenantReport { id, slug, applied, error });
    }

    fn is_whole(&self) -> bool {
        self.failed_count == 0 && self.left_count == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.public.as_slice() {
            [] => write!(f, "control plane: nothing to do")?,
            applied => write!(f, "control plane: applied {}", applied.join(", "))?,
        }
        if self.tenants.is_empty() {
            return write!(f, "\ntenants: nothing to do");
        }
        write!(f, "\ntenants: {} migrated", self.migrated_count)?;
        if self.failed_count > 0 {
            let failed = self.tenants.iter().filter(|tenant| tenant.error.is_some());
            let slugs: Vec<&str> = failed.map(|tenant| tenant.slug.as_str()).collect();
            write!(f, ", {} failed: {}", self.failed_count, slugs.join(", "))?;
        }
        if self.left_count > 0 {
            write!(f, ", {} not tried", self.left_count)?;
        }
        Ok(())
    }
}
