//! The bodies that start fleet migrations.

use utoipa::ToSchema;

use crate::domain::error::Result;
use crate::domain::operation::Then;
use crate::domain::rule::Rule;
use crate::http::body::Fields;
use crate::http::control::call::names;
use crate::service::fleet::{Canary, MigrationRequest};

/// Most that can be asked for at the same time.
const WORKERS_MAX: i64 = 1024;

/// Most tenants that a canary can have, and most failures that can be allowed.
const COUNT_MAX: i64 = 1_000_000;

/// The body that starts a fleet migration; an empty object migrates every tenant that is behind.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(super) struct NewMigration {
    /// Only these tenants, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
    canary: Option<NewCanary>,
    /// The number of tenants to migrate at the same time; the server may use fewer.
    #[schema(minimum = 1, maximum = 1024)]
    workers: Option<u32>,
    /// Pause when this many tenants have failed.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_failures: Option<u32>,
    /// Return the plan and change nothing.
    dry_run: Option<bool>,
}

/// The tenants that are migrated first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[schema(as = NewMigrationCanary)]
pub(super) struct NewCanary {
    /// The number of tenants, oldest first.
    #[schema(minimum = 1, maximum = 1_000_000)]
    count: Option<u32>,
    /// The tenants, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
    /// What to do when all of them succeeded: `pause` (the default) or `continue`.
    then: Option<Then>,
}

/// The body that retries failed tenants; without it, all of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[schema(as = MigrationRetry)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryBody {
    /// Only these tenants, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
}

impl RetryBody {
    /// Reads which tenants are named.
    pub(super) fn read(mut body: Fields) -> Result<Vec<String>> {
        let tenants = names(&mut body, "tenants");
        body.finish(Some(tenants))
    }
}

/// Reads the request for a migration, and whether only its plan is requested.
pub(super) fn command(mut body: Fields) -> Result<(MigrationRequest, bool)> {
    let tenants = names(&mut body, "tenants");
    let workers = number(&mut body, "workers", WORKERS_MAX);
    let max_failures = number(&mut body, "max_failures", COUNT_MAX);
    let dry_run = body.flag("dry_run");
    let canary = body.object("canary").map(|mut inner| {
        let count = number(&mut inner, "count", COUNT_MAX);
        let tenants = names(&mut inner, "tenants");
        let then = inner
            .optional("then", |word| word.parse().map_err(|_unknown| Rule::OneOf(Then::WORDS)));
        if count.is_none() && tenants.is_empty() && !inner.is_refused() {
            inner.refuse("count", Rule::Required);
        }
        body.merge(inner);
        Canary {
            count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            tenants,
            then: then.unwrap_or(Then::Pause),
        }
    });
    body.finish(Some((MigrationRequest { tenants, canary, workers, max_failures }, dry_run)))
}

/// Takes a whole number from 1 that may be absent.
fn number(body: &mut Fields, name: &str, most: i64) -> Option<usize> {
    let value = body.value(name)?;
    let number = value.as_i64().filter(|number| (1..=most).contains(number));
    if number.is_none() {
        let rule = if value.is_number() { Rule::Range(1, most) } else { Rule::Type("integer") };
        body.refuse(name, rule);
    }
    number.and_then(|number| usize::try_from(number).ok())
}
