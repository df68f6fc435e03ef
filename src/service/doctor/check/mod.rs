//! One examination: the first pass over all schemas, and the second, object by object, over those that differ.
//! [`control`] examines the control plane, [`version`] tells at which version a schema is compared, [`server`] examines what is beside the schemas.

mod control;
mod findings;
mod purges;
mod server;
mod undecided;
mod version;

use std::collections::HashMap;

use time::OffsetDateTime;

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::migrations::lint::{self, Guard};
use crate::pg::catalog::history::{self, History};
use crate::pg::catalog::inventory::{self, SchemaOwner, TenantSchema};
use crate::pg::catalog::{self, Fingerprint, Kind, Object};
use crate::pg::rules::Isolation;
use crate::pg::schema::reference::Reference;
use crate::pg::{Db, During, PublicTx, locks};
use crate::service::doctor::Doctor;
use crate::service::doctor::check::findings::{BY_HAND, FIX, MIGRATE, finding, no_schema, subject};
use crate::service::doctor::check::undecided::{decided_by, undecided};
use crate::service::doctor::check::version::{
    SchemaVersion, behind, misrecorded, unreadable, version_of,
};
use crate::service::doctor::diff;
use crate::service::doctor::expected::ExpectedDrift;
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy, Report};
use crate::service::doctor::request::{Budget, Selection};
use crate::service::{reference, tenants};

/// Schemas of the second pass whose locks one transaction holds.
const COMPARED_AT_ONCE: usize = 50;

/// An examination, and the reference schemas that it has made so far.
pub(super) struct Check<'a> {
    pub(super) db: &'a Db,
    pub(super) set: &'a MigrationSet,
    pub(super) server_version: u32,
    pub(super) budget: &'a Budget,
    /// The drift that the operator expects, and how often each line of it was used.
    expected: &'a ExpectedDrift,
    uses: Vec<usize>,
    /// The time of the examination.
    pub(super) now: OffsetDateTime,
    /// What a schema contains at each version that was met; the reason if such a schema cannot be made any more.
    references: HashMap<i32, Result<Reference, String>>,
    /// The statements up to each of these versions whose effect depends on the other tenants.
    guards: HashMap<i32, Vec<Guard>>,
}

impl<'a> Check<'a> {
    pub(super) fn new(doctor: &'a Doctor, now: OffsetDateTime) -> Self {
        Self {
            db: &doctor.db,
            set: &doctor.set,
            server_version: doctor.server_version,
            budget: &doctor.budget,
            expected: &doctor.expected,
            uses: vec![0; doctor.expected.line_count()],
            now,
            references: HashMap::new(),
            guards: HashMap::new(),
        }
    }

    /// Examines what is selected.
    pub(super) async fn run(&mut self, selection: &Selection) -> Result<Report> {
        let named = self.named(selection).await?;
        let engine = self.db.rules().engine;
        let (findings, expected) = (Vec::new(), Vec::new());
        let mut report = Report { engine, tenants: 0, vacancies: 0, findings, expected };
        if named.is_none() {
            report.findings.extend(self.control_plane().await?);
        }
        let is_sound = report.findings.is_empty();
        match self.beside_control_plane(named.as_deref(), &mut report).await {
            Ok(()) => {}
            Err(error) if is_sound || error.is_away() => {
                return Err(error);
            }
            Err(error) => {
                let what = format!("the rest could not be examined: {}", error.chain());
                let next = "put the control plane right, and examine again";
                let (area, gravity) = (Area::Structure, Gravity::Wrong);
                report.findings.push(Finding::new(area, gravity, None, what, next));
            }
        }
        report.sort();
        Ok(report)
    }

    /// Examines all but the tables of the control plane.
    async fn beside_control_plane(
        &mut self,
        named: Option<&[TenantId]>,
        report: &mut Report,
    ) -> Result<()> {
        let entries = {
            let tx = self.public().await?;
            catalog::set_catalog_wide_limits(&tx).await.during("read the catalogs")?;
            inventory::list(&tx, named, self.isolation()).await.during("list schemas")?
        };
        let count = |of: fn(&SchemaOwner) -> bool| entries.iter().filter(|h| of(&h.owner)).count();
        report.tenants = count(|holder| matches!(holder, SchemaOwner::Tenant(_)));
        report.vacancies = count(|holder| matches!(holder, SchemaOwner::Vacancy { .. }));
        report.findings.extend(self.drift(&entries).await?);
        report.findings.extend(self.undistributed(&entries).await?);
        report.findings.extend(self.purges(&entries).await?);
        report.expected = self.expected.uses(&self.uses);
        report.findings.extend(self.expectations(report, named.is_none()));
        if named.is_none() {
            report.findings.extend(self.privileges().await?);
            report.findings.extend(self.orphans(&entries).await?);
            report.findings.extend(self.capacity().await?);
            report.findings.extend(self.credentials().await?);
        }
        Ok(())
    }

    pub(super) async fn public(&self) -> Result<PublicTx> {
        self.db.public().await.during("examine the database")
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.db.rules().isolation
    }

    /// The ids of the selected tenants; `None` if everything is examined.
    async fn named(&self, selection: &Selection) -> Result<Option<Vec<TenantId>>> {
        if selection.tenants.is_empty() {
            return Ok(None);
        }
        let tx = self.public().await?;
        let mut ids = Vec::new();
        for tenant in &selection.tenants {
            ids.push(tenants::find(&tx, tenant).await?.ok_or(Error::NotFound(Noun::Tenant))?.id);
        }
        Ok(Some(ids))
    }

    /// Finds how tenants and vacancies differ from what they should be.
    async fn drift(&mut self, entries: &[TenantSchema]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut present = Vec::new();
        for entry in entries.iter().filter(|entry| is_examined(entry)) {
            match (&entry.owner, entry.has_schema) {
                (_, true) => present.push(entry),
                // Of vacancies only those that are ready are examined.
                (_, false) => findings.push(no_schema(entry)),
            }
        }
        let mut suspects = Vec::new();
        for batch in present.chunks(catalog::BATCH_SIZE) {
            let schemas: Vec<SchemaName> = batch.iter().map(|h| SchemaName::of(h.id)).collect();
            let db = self.db;
            let histories = history::read_all(db, &schemas).await.during("read histories")?;
            let prints = catalog::scan(db, &schemas, self.isolation()).await;
            let prints = prints.during("read the catalogs")?;
            for (entry, schema) in batch.iter().zip(&schemas) {
                let (history, print) =
                    (histories.get(schema.as_str()), prints.get(schema.as_str()));
                match self.first_pass(entry, history, print).await? {
                    Some(of_entry) => findings.extend(of_entry),
                    None => suspects.push(entry.id),
                }
            }
        }
        for some in suspects.chunks(COMPARED_AT_ONCE) {
            findings.extend(self.second_pass(some).await?);
        }
        Ok(findings)
    }

    /// Findings for an unmodified schema: that it is behind, or none. Returns `None` if it needs the second pass.
    async fn first_pass(
        &mut self,
        entry: &TenantSchema,
        history: Option<&History>,
        print: Option<&Fingerprint>,
    ) -> Result<Option<Vec<Finding>>> {
        let (Some(history @ History::Applied(_)), Some(print)) = (history, print) else {
            return Ok(None);
        };
        let SchemaVersion::At(version) = version_of(self.set, entry, history) else {
            return Ok(None);
        };
        if misrecorded(self.set, entry, version).is_some() {
            return Ok(None);
        }
        let is_alike = match self.reference(version).await? {
            Ok(reference) => reference.fingerprint == *print,
            Err(_) => false,
        };
        Ok(is_alike.then(|| behind(self.set, entry, version).into_iter().collect()))
    }

    /// Compares schemas object by object, each with its lock held.
    async fn second_pass(&mut self, ids: &[TenantId]) -> Result<Vec<Finding>> {
        let tx = self.public().await?;
        catalog::set_catalog_wide_limits(&tx).await.during("read the catalogs")?;
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let had = locks::try_locks(&tx, &names).await.during("lock schemas")?;
        let mut findings = Vec::new();
        let (mut held, mut busy) = (Vec::new(), Vec::new());
        for (id, had) in ids.iter().zip(had) {
            if had { held.push(*id) } else { busy.push(*id) }
        }
        for entry in
            inventory::list(&tx, Some(&busy), self.isolation()).await.during("list schemas")?
        {
            if is_examined(&entry) {
                let what = "another process works on the schema (a migration or a purge), so it was not \
                            examined";
                findings.push(finding(
                    &entry,
                    Area::Structure,
                    Gravity::Warning,
                    what,
                    "examine it again",
                ));
            }
        }
        let histories = self.histories(&held).await?;
        findings.extend(self.compare(&tx, &held, &histories).await?);
        Ok(findings)
    }

    /// Reads the histories of schemas that are locked. On connections of their own, because a history that cannot be
    /// read aborts the transaction that reads it.
    pub(super) async fn histories(&self, ids: &[TenantId]) -> Result<HashMap<String, History>> {
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        history::read_all(self.db, &names).await.during("read histories")
    }

    /// All findings about these schemas, whose locks the transaction holds.
    pub(super) async fn compare(
        &mut self,
        tx: &PublicTx,
        ids: &[TenantId],
        histories: &HashMap<String, History>,
    ) -> Result<Vec<Finding>> {
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let entries =
            inventory::list(tx, Some(ids), self.isolation()).await.during("list schemas")?;
        let objects = catalog::objects(tx, &names, self.isolation()).await;
        let objects = objects.during("read the catalogs")?;
        let mut findings = Vec::new();
        // A schema without a tenant by now was purged meanwhile.
        for entry in entries.iter().filter(|entry| is_examined(entry)) {
            let schema = SchemaName::of(entry.id);
            match objects.get(schema.as_str()) {
                None => findings.push(no_schema(entry)),
                Some(objects) => {
                    let history = histories.get(schema.as_str()).unwrap_or(&History::Absent);
                    findings.extend(self.differences(entry, history, objects).await?);
                }
            }
        }
        Ok(findings)
    }

    /// Finds how one schema differs.
    async fn differences(
        &mut self,
        entry: &TenantSchema,
        history: &History,
        objects: &[Object],
    ) -> Result<Vec<Finding>> {
        let version = match version_of(self.set, entry, history) {
            SchemaVersion::At(version) => version,
            SchemaVersion::Unknown(finding) => return Ok(vec![*finding]),
        };
        let mut findings: Vec<Finding> = behind(self.set, entry, version).into_iter().collect();
        if matches!(history, History::Applied(_)) {
            findings.extend(misrecorded(self.set, entry, version));
        }
        self.reference(version).await?;
        let expected = self.expected;
        let reference = match self.references.get(&version) {
            None => return Ok(findings),
            Some(Ok(reference)) => reference,
            Some(Err(reason)) => {
                let what = format!(
                    "it is at version {version} and could not be compared: such a schema cannot be made any \
                     more: {reason}"
                );
                findings.push(finding(entry, Area::Structure, Gravity::Warning, what, MIGRATE));
                return Ok(findings);
            }
        };
        let of = subject(entry);
        let is_expected = |kind: Kind, name: &str| expected.has(&of, kind, name);
        for difference in diff::compare(objects, &reference.objects, is_expected) {
            if let Some(line) = expected.line_for(&of, &difference) {
                self.uses.get_mut(line).into_iter().for_each(|count| *count += 1);
                continue;
            }
            let guards = self.guards.get(&version);
            if let Some(guard) = guards.and_then(|guards| decided_by(&difference, guards)) {
                findings.push(undecided(entry, &difference, guard));
                continue;
            }
            let next = if difference.repairs.is_empty() { BY_HAND } else { FIX };
            let mut found = finding(entry, difference.area, Gravity::Wrong, difference.what, next);
            (found.is, found.should) = (difference.is, difference.should);
            if !difference.repairs.is_empty() {
                found.remedy = Remedy::Repairs(difference.repairs);
            }
            findings.push(found);
        }
        // An owner or a right that can be repaired is why.
        if let History::Denied(reason) = history
            && !findings.iter().any(Finding::is_repairable)
        {
            findings.push(unreadable(entry, reason));
        }
        Ok(findings)
    }

    /// Findings about the lines of `drift.allow`: those that cannot be used and, if everything was examined, those
    /// that were not.
    fn expectations(&self, report: &Report, is_whole: bool) -> Vec<Finding> {
        let malformed = self.expected.malformed().iter().map(|line| {
            let what = format!("drift.allow, line {}: {}: {}", line.number, line.reason, line.text);
            let next = "write <kind> <name> [tenant=<slug or id>] <reason>";
            Finding::new(Area::Structure, Gravity::Wrong, None, what, next)
        });
        let unused = report.expected.iter().filter(|line| is_whole && line.count == 0);
        let unused = unused.map(|line| {
            let what = format!("drift.allow, line {} allowed nothing: {}", line.line, line.text);
            Finding::new(Area::Structure, Gravity::Warning, None, what, "remove the line")
        });
        malformed.chain(unused).collect()
    }

    /// What a schema contains at a version; made on first use.
    pub(super) async fn reference(&mut self, version: i32) -> Result<&Result<Reference, String>> {
        if !self.references.contains_key(&version) {
            let set = self.set.up_to(version);
            let guards = set.as_ref().map(|set| lint::guards(&set.texts())).unwrap_or_default();
            self.guards.insert(version, guards);
            let built = match set {
                None => Err("no file has this version".to_owned()),
                Some(set) => reference::build(self.db, &set, self.server_version, self.now).await?,
            };
            self.references.insert(version, built);
        }
        let made = self.references.get(&version);
        made.ok_or_else(|| Error::internal("make a schema to compare with", "it is not there"))
    }
}

/// Whether a schema is compared at all. An orphan has nothing to be compared with, and a schema that is being purged
/// has lost a part of its tables.
fn is_examined(entry: &TenantSchema) -> bool {
    match &entry.owner {
        SchemaOwner::Tenant(recorded) => !recorded.is_purging,
        SchemaOwner::Vacancy { is_ready } => *is_ready,
        SchemaOwner::None => false,
    }
}
