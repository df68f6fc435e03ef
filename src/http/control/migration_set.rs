//! The tenant migrations of the server that answers: what a migration of the fleet would run.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ViewFleet;
use crate::service::overview::{MigrationFile, Migrations};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read);
}

/// The tenant migrations of a server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationSet)]
pub(super) struct SetAnswer {
    /// The highest version.
    version: i32,
    /// The digest of all files.
    fingerprint: String,
    /// In the order in which they run.
    files: Vec<FileAnswer>,
}

/// A tenant migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationFile)]
pub(super) struct FileAnswer {
    /// The name of the file, such as `V3__add_notes.sql`.
    name: String,
    /// The number in it; null for a repeatable one.
    version: Option<i32>,
    /// The checksum in the history of each tenant that has applied it.
    checksum: String,
    /// Whether it runs in a transaction.
    in_transaction: bool,
    /// The file.
    text: String,
    /// What `rowhouse migrate --lint` says of it.
    findings: Vec<FileFindingAnswer>,
}

/// What `rowhouse migrate --lint` says of a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationFileFinding)]
pub(super) struct FileFindingAnswer {
    /// The line, from 1.
    line: u64,
    /// The id of the rule.
    rule: &'static str,
    /// What the statement would break: `isolation`, `distributed`, `rolling-deploy`, `lock` or `unchecked`.
    severity: &'static str,
    why: &'static str,
    instead: &'static str,
}

/// Returns the tenant migrations of the server that answers, with their texts and what `rowhouse migrate --lint` says of them.
#[utoipa::path(tag = "control", operation_id = "getMigrationSet", security(("bearer" = [])), responses(
    (status = 200, description = "The migrations", body = SetAnswer),
    Unexpected, Forbidden<ViewFleet>,
))]
#[get("/control/v1/migration-set")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let migrations = call.services().overview.migrations(&call.ctx)?;
    Ok(HttpResponse::Ok().json(SetAnswer::from(migrations)))
}

impl From<Migrations> for SetAnswer {
    fn from(migrations: Migrations) -> Self {
        Self {
            version: migrations.version,
            fingerprint: migrations.fingerprint,
            files: migrations.files.into_iter().map(FileAnswer::from).collect(),
        }
    }
}

impl From<MigrationFile> for FileAnswer {
    fn from(file: MigrationFile) -> Self {
        let findings = file.findings.into_iter().map(|finding| FileFindingAnswer {
            line: finding.line,
            rule: finding.rule.id(),
            severity: finding.rule.severity().as_str(),
            why: finding.rule.why(),
            instead: finding.rule.instead(),
        });
        Self {
            name: file.name,
            version: file.version,
            checksum: file.checksum,
            in_transaction: file.in_transaction,
            text: file.text,
            findings: findings.collect(),
        }
    }
}
