//! One examination: the pass over all schemas and the second look at those that differ. What version a schema
//! is compared at is in `standing`, what is examined beside the schemas in `surroundings`.

mod server;
mod version;

use std::collections::HashMap;

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::catalog::history::{self, History};
use crate::pg::catalog::inventory::{self, SchemaOwner, TenantSchema};
use crate::pg::catalog::{self, Fingerprint, Object};
use crate::pg::rules::Isolation;
use crate::pg::schema::reference::{self, Reference};
use crate::pg::{During, PublicTx, locks};
use crate::service::doctor::check::version::Standing;
use crate::service::doctor::diff::compare;
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy, Report, Subject};
use crate::service::doctor::{Doctor, Wish};
use crate::service::fleet;
use crate::service::tenants;

/// Schemas of a second look, whose locks one transaction holds.
const LOOKED_AT_ONCE: usize = 50;

const MIGRATE: &str = "run `rowhouse migrate`";
const FIX: &str = "run `rowhouse doctor --fix`";
const DROP: &str = "see what is in it; `rowhouse doctor --fix --drop-orphans --yes` drops it with all that it holds";
const BY_HAND: &str = "see what was done by hand and undo it, or write a migration that expects it; \
                       nothing here changes structure or data";

/// What the examination has learned so far.
pub(super) struct Exam<'a> {
    pub(super) doctor: &'a Doctor,
    /// How a schema looks at each version that was met; the reason where it cannot be made any more.
    references: HashMap<i32, Result<Reference, String>>,
}

impl<'a> Exam<'a> {
    pub(super) fn new(doctor: &'a Doctor) -> Self {
        Self { doctor, references: HashMap::new() }
    }

    /// Looks at all that is wished for.
    pub(super) async fn all(&mut self, wish: &Wish) -> Result<Report> {
        let named = self.named(wish).await?;
        let houses = {
            let tx = self.public().await?;
            catalog::set_catalog_wide_limits(&tx).await.during("read the catalogs")?;
            inventory::list(&tx, named.as_deref(), self.isolation()).await.during("list schemas")?
        };
        let mut findings = self.drift(&houses).await?;
        if named.is_none() {
            findings.extend(self.walls().await?);
            findings.extend(self.orphans(&houses).await?);
            findings.extend(self.capacity().await?);
        }
        let count = |of: fn(&SchemaOwner) -> bool| houses.iter().filter(|h| of(&h.owner)).count();
        let mut report = Report {
            tenants: count(|holder| matches!(holder, SchemaOwner::Tenant(_))),
            vacancies: count(|holder| matches!(holder, SchemaOwner::Vacancy { .. })),
            findings,
        };
        report.sort();
        Ok(report)
    }

    pub(super) async fn public(&self) -> Result<PublicTx> {
        self.doctor.db.public().await.during("examine the database")
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.doctor.db.rules().isolation
    }

    /// The ids of the tenants that were named.
    async fn named(&self, wish: &Wish) -> Result<Option<Vec<TenantId>>> {
        if wish.tenants.is_empty() {
            return Ok(None);
        }
        let tx = self.public().await?;
        let mut ids = Vec::new();
        for tenant in &wish.tenants {
            ids.push(tenants::find(&tx, tenant).await?.ok_or(Error::NotFound(Noun::Tenant))?.id);
        }
        Ok(Some(ids))
    }

    /// What tenants and vacancies differ in from what they should be.
    async fn drift(&mut self, houses: &[TenantSchema]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut there = Vec::new();
        for house in houses.iter().filter(|house| is_examined(house)) {
            match (&house.owner, house.has_schema) {
                (_, true) => there.push(house),
                (SchemaOwner::Tenant(_), false) => findings.push(no_schema(house)),
                // Not yet built, or being dropped.
                (_, false) => {}
            }
        }
        let mut suspects = Vec::new();
        for crowd in there.chunks(catalog::BATCH_SIZE) {
            let schemas: Vec<SchemaName> = crowd.iter().map(|h| SchemaName::of(h.id)).collect();
            let db = &self.doctor.db;
            let histories = history::read_all(db, &schemas).await.during("read histories")?;
            let prints = catalog::scan(db, &schemas, self.isolation()).await;
            let prints = prints.during("read the catalogs")?;
            for (house, schema) in crowd.iter().zip(&schemas) {
                let (history, print) =
                    (histories.get(schema.as_str()), prints.get(schema.as_str()));
                match self.is_sound(house, history, print).await? {
                    Some(findings_of_it) => findings.extend(findings_of_it),
                    None => suspects.push(house.id),
                }
            }
        }
        for some in suspects.chunks(LOOKED_AT_ONCE) {
            findings.extend(self.second_look(some).await?);
        }
        Ok(findings)
    }

    /// What there is to say of a schema whose digest is as it should be: that it is behind, or nothing. None
    /// where it needs a second look.
    async fn is_sound(
        &mut self,
        house: &TenantSchema,
        history: Option<&History>,
        print: Option<&Fingerprint>,
    ) -> Result<Option<Vec<Finding>>> {
        let (Some(history @ History::Applied(_)), Some(print)) = (history, print) else {
            return Ok(None);
        };
        let Standing::At(version) = self.standing(house, history) else { return Ok(None) };
        if self.misrecorded(house, version).is_some() {
            return Ok(None);
        }
        let is_alike = match self.reference(version).await? {
            Ok(reference) => reference.fingerprint == *print,
            Err(_) => false,
        };
        Ok(is_alike.then(|| self.behind(house, version).into_iter().collect()))
    }

    /// Looks at schemas object by object, each with its lock held.
    async fn second_look(&mut self, ids: &[TenantId]) -> Result<Vec<Finding>> {
        let tx = self.public().await?;
        catalog::set_catalog_wide_limits(&tx).await.during("read the catalogs")?;
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let had = locks::try_locks(&tx, &names).await.during("lock schemas")?;
        let mut findings = Vec::new();
        let (mut held, mut busy) = (Vec::new(), Vec::new());
        for (id, had) in ids.iter().zip(had) {
            if had { held.push(*id) } else { busy.push(*id) }
        }
        for house in
            inventory::list(&tx, Some(&busy), self.isolation()).await.during("list schemas")?
        {
            if is_examined(&house) {
                let what = "somebody works on the schema at this moment (a migration or a purge), so it was \
                            not looked at";
                findings.push(finding(
                    &house,
                    Area::Structure,
                    Gravity::Warning,
                    what,
                    "look again",
                ));
            }
        }
        let histories = self.histories(&held).await?;
        findings.extend(self.look(&tx, &held, &histories).await?);
        Ok(findings)
    }

    /// What was migrated in these schemas, whose locks somebody holds. Read on connections of its own, since a
    /// history that cannot be read fails the transaction that it is read in.
    pub(super) async fn histories(&self, ids: &[TenantId]) -> Result<HashMap<String, History>> {
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        history::read_all(&self.doctor.db, &names).await.during("read histories")
    }

    /// Everything that is to say about these schemas, whose locks the transaction holds.
    pub(super) async fn look(
        &mut self,
        tx: &PublicTx,
        ids: &[TenantId],
        histories: &HashMap<String, History>,
    ) -> Result<Vec<Finding>> {
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let houses =
            inventory::list(tx, Some(ids), self.isolation()).await.during("list schemas")?;
        let objects = catalog::objects(tx, &names, self.isolation()).await;
        let objects = objects.during("read the catalogs")?;
        let mut findings = Vec::new();
        // One that is nobody's by now was purged meanwhile.
        for house in houses.iter().filter(|house| is_examined(house)) {
            let schema = SchemaName::of(house.id);
            match objects.get(schema.as_str()) {
                None if matches!(house.owner, SchemaOwner::Tenant(_)) => {
                    findings.push(no_schema(house));
                }
                None => {}
                Some(objects) => {
                    let history = histories.get(schema.as_str()).unwrap_or(&History::Absent);
                    findings.extend(self.differences(house, history, objects).await?);
                }
            }
        }
        Ok(findings)
    }

    /// What one schema differs in.
    async fn differences(
        &mut self,
        house: &TenantSchema,
        history: &History,
        objects: &[Object],
    ) -> Result<Vec<Finding>> {
        let version = match self.standing(house, history) {
            Standing::At(version) => version,
            Standing::Astray(finding) => return Ok(vec![*finding]),
        };
        let mut findings: Vec<Finding> = self.behind(house, version).into_iter().collect();
        if matches!(history, History::Applied(_)) {
            findings.extend(self.misrecorded(house, version));
        }
        let reference = match self.reference(version).await? {
            Ok(reference) => reference,
            Err(reason) => {
                let what = format!(
                    "it is at version {version} and could not be compared: such a schema cannot be made any \
                     more: {reason}"
                );
                findings.push(finding(house, Area::Structure, Gravity::Warning, what, MIGRATE));
                return Ok(findings);
            }
        };
        for difference in compare(objects, &reference.objects) {
            let next = if difference.mends.is_empty() { BY_HAND } else { FIX };
            let mut found = finding(house, difference.area, Gravity::Wrong, difference.what, next);
            (found.is, found.should) = (difference.is, difference.should);
            if !difference.mends.is_empty() {
                found.remedy = Remedy::Mends(difference.mends);
            }
            findings.push(found);
        }
        Ok(findings)
    }

    /// How a schema looks at a version; made when first asked for.
    pub(super) async fn reference(&mut self, version: i32) -> Result<&Result<Reference, String>> {
        if !self.references.contains_key(&version) {
            let Doctor { db, set, server_version, .. } = self.doctor;
            let built = match set.up_to(version) {
                None => Err("no file has this version".to_owned()),
                Some(set) => match reference::build(db, &set, *server_version).await {
                    Ok(reference) => Ok(reference),
                    Err(error) => {
                        let words = error.to_string();
                        match fleet::to_error("make a schema to compare with", error) {
                            away @ Error::Unavailable { .. } => return Err(away),
                            _ => Err(words),
                        }
                    }
                },
            };
            self.references.insert(version, built);
        }
        let made = self.references.get(&version);
        made.ok_or_else(|| Error::internal("make a schema to compare with", "it is not there"))
    }
}

/// Whether a schema is compared at all: one that is nobody's is compared with nothing, and one that is being
/// purged is no longer what it was.
fn is_examined(house: &TenantSchema) -> bool {
    match &house.owner {
        SchemaOwner::Tenant(recorded) => !recorded.is_purging,
        SchemaOwner::Vacancy { is_ready } => *is_ready,
        SchemaOwner::None => false,
    }
}

fn no_schema(house: &TenantSchema) -> Finding {
    let next = "restore the schema from a backup, or delete the tenant";
    finding(house, Area::Structure, Gravity::Wrong, "its schema is missing", next)
}

fn finding(
    house: &TenantSchema,
    area: Area,
    gravity: Gravity,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    let slug = match &house.owner {
        SchemaOwner::Tenant(recorded) => Some(recorded.slug.clone()),
        SchemaOwner::Vacancy { .. } | SchemaOwner::None => None,
    };
    Finding::new(area, gravity, Some(&Subject { slug, id: house.id }), what, next)
}
