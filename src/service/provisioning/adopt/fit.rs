//! Finds the version of the migrations that a schema equals, and how it differs from one.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use time::OffsetDateTime;

use super::{AdoptSchema, NotAdopted};
use crate::domain::error::Result;
use crate::pg::catalog::{Kind, Object};
use crate::pg::schema::reference::Reference;
use crate::pg::schema::repair::Repair;
use crate::service::doctor::{Area, diff};
use crate::service::provisioning::Provisioning;
use crate::service::reference;

/// The most differences that a refusal names.
const DIFFERENCES_MAX: usize = 40;

/// Tables in which other tools record what they applied.
const HISTORIES: [&str; 11] = [
    "django_migrations",
    "schema_migrations",
    "ar_internal_metadata",
    "flyway_schema_history",
    "databasechangelog",
    "databasechangeloglock",
    "alembic_version",
    "_sqlx_migrations",
    "knex_migrations",
    "knex_migrations_lock",
    "migrations",
];

/// What is in a schema.
pub(super) struct Contents {
    pub(super) objects: Vec<Object>,
    /// The rows of its history of migrations, one a line; empty if it has none.
    pub(super) history: String,
}

/// What each version of the migrations makes; the reason if it cannot be made.
pub(super) type References = HashMap<i32, Result<Reference, String>>;

impl Provisioning {
    /// Returns the version that the schema equals.
    pub(super) async fn fitting_version(
        &self,
        command: &AdoptSchema,
        contents: &Contents,
        references: &mut References,
        now: OffsetDateTime,
    ) -> Result<i32, NotAdopted> {
        let mut nearest: Option<(usize, i32, Vec<String>)> = None;
        for version in self.candidates(command, contents)? {
            let reference = match self.reference(version, references, now).await? {
                Ok(reference) => reference,
                Err(reason) => {
                    let reason = format!("version {version} cannot be made: {reason}");
                    nearest = nearest.or(Some((usize::MAX, version, vec![reason])));
                    continue;
                }
            };
            let mut reasons = structure(&contents.objects, reference);
            if !command.keep_extra {
                reasons.extend(extra_sentences(&contents.objects, reference));
            }
            if reasons.is_empty() {
                return Ok(version);
            }
            if nearest.as_ref().is_none_or(|(count, ..)| reasons.len() < *count) {
                nearest = Some((reasons.len(), version, reasons));
            }
        }
        Err(NotAdopted::Refused(match nearest {
            Some((_, version, reasons)) => explain(command, version, reasons),
            None => vec!["there are no migrations to compare it with".to_owned()],
        }))
    }

    /// Returns the versions that come into question, the likeliest first.
    fn candidates(
        &self,
        command: &AdoptSchema,
        contents: &Contents,
    ) -> Result<Vec<i32>, NotAdopted> {
        let refuse = |reason: String| Err(NotAdopted::Refused(vec![reason]));
        if let Some(version) = command.stamp
            && self.set.up_to(version).is_none()
        {
            let files = self.set.files().join(", ");
            return refuse(format!("no file has version {version}; there are {files}"));
        }
        let known = self.set.history();
        // A repeatable file has a negative version, and belongs to every version of the set.
        let versions = known.iter().rev().map(|file| file.version).filter(|version| *version > 0);
        if contents.history.is_empty() {
            return Ok(command.stamp.map_or_else(|| versions.collect(), |version| vec![version]));
        }
        let applied = self.set.comparable_history(&contents.history);
        let is_its = |version: &i32| {
            self.set.up_to(*version).is_some_and(|set| set.history_text() == applied)
        };
        match (versions.clone().find(is_its), command.stamp) {
            (None, _) => refuse(
                "its refinery_schema_history has other files than the first of these migrations; drop the table or \
                 give the files that it names"
                    .to_owned(),
            ),
            (Some(version), Some(stamp)) if stamp != version => refuse(format!(
                "its refinery_schema_history says version {version}, and --stamp says {stamp}"
            )),
            (Some(version), _) => Ok(vec![version]),
        }
    }

    /// Returns what a schema has at a version; made on first use.
    async fn reference<'a>(
        &self,
        version: i32,
        references: &'a mut References,
        now: OffsetDateTime,
    ) -> Result<&'a Result<Reference, String>> {
        match references.entry(version) {
            Entry::Occupied(made) => Ok(made.into_mut()),
            Entry::Vacant(missing) => {
                let built = match self.set.up_to(version) {
                    None => Err("no file has this version".to_owned()),
                    Some(set) => reference::build(&self.db, &set, self.server_version, now).await?,
                };
                Ok(missing.insert(built))
            }
        }
    }
}

fn explain(command: &AdoptSchema, version: i32, reasons: Vec<String>) -> Vec<String> {
    let only_extra = reasons.iter().all(|reason| reason.ends_with(EXTRA));
    let mut lines = vec![match command.stamp {
        Some(_) => format!("it is not what the migrations up to version {version} make:"),
        None => {
            format!("it equals no version of the migrations; the nearest is version {version}:")
        }
    }];
    let more = reasons.len().saturating_sub(DIFFERENCES_MAX);
    lines.extend(reasons.into_iter().take(DIFFERENCES_MAX).map(|reason| format!("  {reason}")));
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    if only_extra {
        lines.push("--keep-extra adopts it with these objects".to_owned());
    }
    lines
}

/// The end of a sentence about an object that no migration makes.
const EXTRA: &str = "is there, and no migration makes it";

/// Whether an object that no migration makes can stay: it changes nothing about those that the migrations make.
fn can_stay(object: &Object) -> bool {
    match object.kind {
        Kind::Index | Kind::Statistics => true,
        Kind::Table
        | Kind::View
        | Kind::MaterializedView
        | Kind::Sequence
        | Kind::Routine
        | Kind::Type
        | Kind::Other => object.parent.is_empty(),
        _ => false,
    }
}

/// Returns the objects that no migration makes and that can stay.
fn extra<'a>(found: &'a [Object], reference: &Reference) -> Vec<&'a Object> {
    let key = |object: &Object| (object.kind, object.parent.clone(), object.name.clone());
    let wanted: BTreeSet<_> = reference.objects.iter().map(key).collect();
    found.iter().filter(|object| can_stay(object) && !wanted.contains(&key(object))).collect()
}

/// Returns what is left of the objects without those that can stay, and what belongs to them.
fn without_extra(found: &[Object], reference: &Reference) -> Vec<Object> {
    let extra = extra(found, reference);
    let labels: BTreeSet<String> = extra.iter().map(|object| object.label()).collect();
    let stays = |object: &&Object| !labels.contains(&object.parent) && !extra.contains(object);
    found.iter().filter(stays).cloned().collect()
}

/// Returns the names of the objects that no migration makes.
pub(super) fn kept_labels(found: &[Object], reference: &Reference) -> Vec<String> {
    let extra = extra(found, reference);
    let labels: BTreeSet<String> = extra.iter().map(|object| object.label()).collect();
    let of_others = extra.iter().filter(|object| !labels.contains(&object.parent));
    of_others.map(|object| label(object)).collect()
}

fn label(object: &Object) -> String {
    if HISTORIES.contains(&object.name.as_str()) && object.kind == Kind::Table {
        return format!("{} (the history of another tool)", object.label());
    }
    match object.parent.as_str() {
        "" => object.label(),
        parent => format!("{parent}: {}", object.label()),
    }
}

fn extra_sentences(found: &[Object], reference: &Reference) -> Vec<String> {
    kept_labels(found, reference).into_iter().map(|label| format!("{label} {EXTRA}")).collect()
}

/// Returns how the structure differs from a version, apart from objects that can stay.
pub(super) fn structure(found: &[Object], reference: &Reference) -> Vec<String> {
    let differences =
        diff::compare(&without_extra(found, reference), &reference.objects, |_, _| false);
    let of_structure =
        differences.into_iter().filter(|difference| difference.area == Area::Structure);
    of_structure.map(|difference| difference.what).collect()
}

/// Returns how owners and rights differ from those of a version, and what sets them.
pub(super) fn compare_rights(
    found: &[Object],
    reference: &Reference,
) -> (Vec<Repair>, Vec<String>) {
    let differences =
        diff::compare(&without_extra(found, reference), &reference.objects, |_, _| false);
    let of_rights = differences.into_iter().filter(|difference| difference.area == Area::Rights);
    let (repairs, left): (Vec<_>, Vec<_>) =
        of_rights.map(|difference| (difference.repairs, difference.what)).unzip();
    (repairs.into_iter().flatten().collect(), left)
}
