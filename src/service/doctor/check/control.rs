//! Examines the control plane's own tables: whether they are as its migrations make them. Tables that an application
//! added to `public` are not.

use std::collections::BTreeSet;

use crate::domain::error::{Error, Result};
use crate::migrations::MigrationSet;
use crate::pg::During;
use crate::pg::bootstrap::control_plane::{self, ControlPlane};
use crate::pg::bootstrap::version::{self, Fit};
use crate::pg::catalog::{Kind, Object};
use crate::pg::rules::RUNTIME_LOGIN;
use crate::service::doctor::check::Check;
use crate::service::doctor::check::findings::{NOT_OURS, RESTORE};
use crate::service::doctor::diff::{self, Change, Difference};
use crate::service::doctor::report::{Area, Finding, Gravity};
use crate::service::fleet;

impl Check<'_> {
    /// Finds how the control plane differs from what its migrations make.
    pub(super) async fn control_plane(&self) -> Result<Vec<Finding>> {
        const DURING: &str = "make a control plane to compare with";
        let set = MigrationSet::public().map_err(|error| Error::internal(DURING, error))?;
        let tx = self.db.public().await.during(DURING)?;
        let fit = version::fit(&tx, set.version()).await.during(DURING)?;
        drop(tx); // a read needs no commit
        if let Fit::Newer { found } | Fit::TooNew { found } = fit {
            let known = set.version();
            return Ok(vec![Finding::new(
                Area::Structure,
                Gravity::Warning,
                None,
                format!(
                    "the control plane is at V{found} and was not compared: this program knows up to V{known}"
                ),
                "compare it by the program that migrated it",
            )]);
        }
        match control_plane::read(self.db, &set).await {
            Ok(read) => Ok(compare(read)),
            Err(error) => {
                let what = format!("the control plane could not be examined: {error}");
                match fleet::to_error(DURING, error) {
                    away if away.is_away() => Err(away),
                    _ => Ok(vec![Finding::new(
                        Area::Structure,
                        Gravity::Wrong,
                        None,
                        what,
                        "see that this login may create schemas in the database",
                    )]),
                }
            }
        }
    }
}

fn compare(read: ControlPlane) -> Vec<Finding> {
    let ControlPlane { found, made, owner } = read;
    let made: Vec<Object> = made.into_iter().filter(is_compared).map(named_public).collect();
    let labels: BTreeSet<String> =
        made.iter().filter(|object| object.parent.is_empty()).map(Object::label).collect();
    let is_ours = |object: &Object| match object.parent.as_str() {
        "" => labels.contains(&object.label()),
        parent => labels.contains(parent),
    };
    let found = found.into_iter().filter(is_compared).map(named_public).filter(is_ours);
    let found: Vec<Object> = found.collect();
    let differences = diff::compare(&found, &made, |_, _| false);
    differences.into_iter().map(|difference| finding(difference, &owner)).collect()
}

/// Whether an object is compared. The privileges of `public` itself, of tenants and of every role are examined with the
/// isolation of tenants.
fn is_compared(object: &Object) -> bool {
    match object.kind {
        Kind::Schema | Kind::DefaultGrant => false,
        Kind::Grant => {
            object.parent != "schema"
                && !["PUBLIC", RUNTIME_LOGIN].contains(&object.name.as_str())
                && !object.name.starts_with("tenant_")
        }
        _ => true,
    }
}

/// The object with the name of the schema in place of the placeholder.
fn named_public(object: Object) -> Object {
    let named = |text: String| text.replace("{tenant}.", "public.");
    let Object { kind, parent, name, properties } = object;
    let properties = properties.into_iter().map(named).collect();
    Object { kind, parent: named(parent), name: named(name), properties }
}

fn finding(difference: Difference, owner: &str) -> Finding {
    let next = next(&difference, owner);
    let what = format!("the control plane: {}", difference.what);
    let mut found = Finding::new(difference.area, Gravity::Wrong, None, what, next);
    (found.is, found.should) = (difference.is, difference.should);
    found
}

fn next(difference: &Difference, owner: &str) -> String {
    let Difference { area, kind, parent, name, change, .. } = difference;
    match (area, kind) {
        (Area::Rights, Kind::Grant) => {
            let on = parent.strip_prefix("table ").unwrap_or(parent);
            let object = on.strip_prefix("sequence ").map_or_else(
                || format!("public.{on}"),
                |sequence| format!("SEQUENCE public.{sequence}"),
            );
            format!("run as the owner of it: REVOKE ALL ON {object} FROM {name}")
        }
        (Area::Rights, kind) => {
            let kind = kind.as_str().to_uppercase();
            format!("run as a superuser: ALTER {kind} public.{name} OWNER TO {owner}")
        }
        _ if *change == Change::Extra => NOT_OURS.to_owned(),
        _ => RESTORE.to_owned(),
    }
}
