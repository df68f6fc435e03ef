//! One examination: the pass over all schemas, the second look at those that differ, the walls, what is
//! nobody's, what the server has room for.

use std::collections::HashMap;

use super::capacity::judge;
use super::compare::compare;
use super::report::{Area, Finding, Gravity, Remedy, Report, Subject};
use super::{Doctor, Wish};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::bootstrap::{self, BootstrapError, walls};
use crate::pg::catalog::history::{self, History};
use crate::pg::catalog::houses::{self, Holder, House, Recorded};
use crate::pg::catalog::reference::{self, Reference};
use crate::pg::catalog::{self, Fingerprint, Object};
use crate::pg::pool::Isolation;
use crate::pg::{During, PublicTx, capacity, schemas, tenants};
use crate::service::fleet;
use crate::service::tenants::TenantRef;

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

/// What a schema is to be compared with.
enum Standing {
    /// The files up to this version were applied, and no others.
    At(i32),
    /// That cannot be told; what was found instead.
    Astray(Box<Finding>),
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
            catalog::unhurried(&tx).await.during("read the catalogs")?;
            houses::list(&tx, named.as_deref(), self.with_roles()).await.during("list schemas")?
        };
        let mut findings = self.drift(&houses).await?;
        if named.is_none() {
            findings.extend(self.walls().await?);
            findings.extend(self.orphans(&houses).await?);
            findings.extend(self.capacity().await?);
        }
        let count = |of: fn(&Holder) -> bool| houses.iter().filter(|h| of(&h.holder)).count();
        let mut report = Report {
            tenants: count(|holder| matches!(holder, Holder::Tenant(_))),
            vacancies: count(|holder| matches!(holder, Holder::Vacancy { .. })),
            findings,
        };
        report.sort();
        Ok(report)
    }

    pub(super) async fn public(&self) -> Result<PublicTx> {
        self.doctor.db.public().await.during("examine the database")
    }

    pub(super) fn with_roles(&self) -> bool {
        self.doctor.db.rules().isolation == Isolation::Role
    }

    /// The ids of the tenants that were named.
    async fn named(&self, wish: &Wish) -> Result<Option<Vec<TenantId>>> {
        if wish.tenants.is_empty() {
            return Ok(None);
        }
        let tx = self.public().await?;
        let mut ids = Vec::new();
        for tenant in &wish.tenants {
            let found = match tenant {
                TenantRef::Id(id) => tenants::lookup(&tx, *id).await?,
                TenantRef::Slug(slug) => tenants::find_by_slug(&tx, slug).await?,
                TenantRef::Number(number) => tenants::find_by_number(&tx, *number).await?,
            };
            ids.push(found.ok_or(Error::NotFound(Noun::Tenant))?.id);
        }
        Ok(Some(ids))
    }

    /// What tenants and vacancies differ in from what they should be.
    async fn drift(&mut self, houses: &[House]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut there = Vec::new();
        for house in houses.iter().filter(|house| is_examined(house)) {
            match (&house.holder, house.has_schema) {
                (_, true) => there.push(house),
                (Holder::Tenant(_), false) => findings.push(no_schema(house)),
                // Not yet built, or being dropped.
                (_, false) => {}
            }
        }
        let mut suspects = Vec::new();
        for crowd in there.chunks(catalog::CROWD) {
            let schemas: Vec<SchemaName> = crowd.iter().map(|h| SchemaName::of(h.id)).collect();
            let db = &self.doctor.db;
            let histories = history::read_all(db, &schemas).await.during("read histories")?;
            let prints = catalog::scan(db, &schemas, self.with_roles()).await;
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
        house: &House,
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
        catalog::unhurried(&tx).await.during("read the catalogs")?;
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let had = schemas::try_locks(&tx, &names).await.during("lock schemas")?;
        let mut findings = Vec::new();
        let (mut held, mut busy) = (Vec::new(), Vec::new());
        for (id, had) in ids.iter().zip(had) {
            if had { held.push(*id) } else { busy.push(*id) }
        }
        for house in
            houses::list(&tx, Some(&busy), self.with_roles()).await.during("list schemas")?
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
        let houses = houses::list(tx, Some(ids), self.with_roles()).await.during("list schemas")?;
        let objects = catalog::objects(tx, &names, self.with_roles()).await;
        let objects = objects.during("read the catalogs")?;
        let mut findings = Vec::new();
        // One that is nobody's by now was purged meanwhile.
        for house in houses.iter().filter(|house| is_examined(house)) {
            let schema = SchemaName::of(house.id);
            match objects.get(schema.as_str()) {
                None if matches!(house.holder, Holder::Tenant(_)) => {
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
        house: &House,
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

    /// By what a schema was made.
    fn standing(&self, house: &House, history: &History) -> Standing {
        let astray = |what: String, next: &str| {
            Standing::Astray(Box::new(finding(house, Area::History, Gravity::Wrong, what, next)))
        };
        let set = &self.doctor.set;
        match (history, &house.holder) {
            (History::Applied(applied), _) => match version_of(applied, &set.trail()) {
                Some(version) => Standing::At(version),
                None => astray(
                    first_difference(applied, &set.trail()),
                    "use the program, or the folder of migrations, that the schema was migrated with; a \
                     migration is never edited once applied",
                ),
            },
            // The comparison then tells that the table is missing.
            (History::Absent, Holder::Tenant(recorded)) => match set.up_to(recorded.version) {
                Some(set) if set.fingerprint() == recorded.fingerprint => {
                    Standing::At(recorded.version)
                }
                _ => astray(
                    format!(
                        "it has no migration history, and the recorded version {} is of other files than \
                         this program's",
                        recorded.version
                    ),
                    BY_HAND,
                ),
            },
            (History::Absent, _) => Standing::At(set.version()),
            (History::Unreadable(reason), _) => {
                astray(format!("its migration history cannot be read: {reason}"), BY_HAND)
            }
        }
    }

    /// That a schema lacks some files.
    fn behind(&self, house: &House, version: i32) -> Option<Finding> {
        let known = self.doctor.set.version();
        // A vacancy that is behind is built anew by itself.
        let is_tenant = matches!(house.holder, Holder::Tenant(_));
        (is_tenant && version < known).then(|| {
            let what = format!("it is behind: at version {version}, the files go up to {known}");
            finding(house, Area::History, Gravity::Warning, what, MIGRATE)
        })
    }

    /// That the tenant's row says something else than the history.
    fn misrecorded(&self, house: &House, version: i32) -> Option<Finding> {
        let Holder::Tenant(Recorded { version: said, fingerprint, .. }) = &house.holder else {
            return None;
        };
        let set = &self.doctor.set;
        let is_right = if version == set.version() {
            set.fingerprint() == fingerprint
        } else {
            set.up_to(version).is_some_and(|set| set.fingerprint() == fingerprint)
        };
        (!(is_right && *said == version)).then(|| {
            let what = if *said == version {
                format!(
                    "version {version} is recorded as made by other files than its history says"
                )
            } else {
                format!("version {said} is recorded, its history is at {version}")
            };
            finding(house, Area::History, Gravity::Wrong, what, FIX)
                .with_remedy(Remedy::Record(version))
        })
    }

    /// What a tenant could do beyond its own schema.
    async fn walls(&self) -> Result<Vec<Finding>> {
        let wrong = |what: String, next: String| {
            Finding::new(Area::Walls, Gravity::Wrong, None, what, next)
        };
        let breaches = {
            let tx = self.public().await?;
            walls::breaches(&tx).await.during("read what everybody may do")?
        };
        let mut findings: Vec<Finding> = breaches
            .into_iter()
            .map(|breach| {
                if breach.may_close {
                    let next = format!("{FIX}, or: {}", breach.statement);
                    return wrong(breach.open.clone(), next).with_remedy(Remedy::Close(breach));
                }
                // Known at each start, and nothing that this login could change.
                let next = format!(
                    "this login may not prevent it; let a superuser run: {}",
                    breach.statement
                );
                Finding::new(Area::Walls, Gravity::Warning, None, breach.open, next)
            })
            .collect();
        // What else it tells, that a tenant has no role, is told with the tenant.
        if let Err(error) = bootstrap::self_test(&self.doctor.db).await {
            let next = match error {
                BootstrapError::Crossed { .. } => {
                    "see who granted it, and take it back; `rowhouse serve` refuses to start like this"
                }
                _ => "see that the runtime login works; `rowhouse serve` sets it up",
            };
            findings.push(wrong(error.to_string(), next.to_owned()));
        }
        Ok(findings)
    }

    /// Schemas and roles that are nobody's.
    async fn orphans(&self, houses: &[House]) -> Result<Vec<Finding>> {
        let mut findings: Vec<Finding> = houses
            .iter()
            .filter(|house| matches!(house.holder, Holder::Nobody))
            .map(|house| {
                let what = format!("the schema {} belongs to no tenant", SchemaName::of(house.id));
                finding(house, Area::Orphans, Gravity::Wrong, what, DROP)
                    .with_remedy(Remedy::DropSchema)
            })
            .collect();
        if self.with_roles() {
            let tx = self.public().await?;
            for id in houses::orphan_roles(&tx).await.during("list roles")? {
                let subject = Subject { slug: None, id };
                let what = format!("the role {} belongs to no tenant", SchemaName::of(id));
                // Before PostgreSQL 16 many roles are slow; otherwise it harms nobody.
                let gravity = Gravity::Warning;
                findings.push(
                    Finding::new(Area::Orphans, gravity, Some(&subject), what, DROP)
                        .with_remedy(Remedy::DropRole),
                );
            }
        }
        Ok(findings)
    }

    /// What the server will run out of.
    async fn capacity(&mut self) -> Result<Vec<Finding>> {
        let facts = {
            let tx = self.public().await?;
            catalog::unhurried(&tx).await.during("read the server's settings")?;
            capacity::read(&tx).await.during("read the server's settings")?
        };
        let version = self.doctor.set.version();
        let locks = match self.reference(version).await? {
            Ok(reference) => reference.locks,
            Err(reason) => {
                let what = format!("no tenant can be made: {reason}");
                return Ok(vec![Finding::new(
                    Area::Structure,
                    Gravity::Wrong,
                    None,
                    what,
                    "mend the tenant migrations",
                )]);
            }
        };
        Ok(judge(&facts, &self.doctor.budget, locks))
    }
}

/// Whether a schema is compared at all: one that is nobody's is compared with nothing, and one that is being
/// purged is no longer what it was.
fn is_examined(house: &House) -> bool {
    match &house.holder {
        Holder::Tenant(recorded) => !recorded.is_purging,
        Holder::Vacancy { is_ready } => *is_ready,
        Holder::Nobody => false,
    }
}

fn no_schema(house: &House) -> Finding {
    let next = "restore the schema from a backup, or delete the tenant";
    finding(house, Area::Structure, Gravity::Wrong, "its schema is missing", next)
}

fn finding(
    house: &House,
    area: Area,
    gravity: Gravity,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    let slug = match &house.holder {
        Holder::Tenant(recorded) => Some(recorded.slug.clone()),
        Holder::Vacancy { .. } | Holder::Nobody => None,
    };
    Finding::new(area, gravity, Some(&Subject { slug, id: house.id }), what, next)
}

/// The version that a history stands at, if it is the beginning of what the files leave.
fn version_of(applied: &str, whole: &str) -> Option<i32> {
    let rest = whole.strip_prefix(applied)?;
    let ends_a_line = applied.is_empty() || rest.is_empty() || rest.starts_with('\n');
    if !ends_a_line {
        return None;
    }
    match applied.lines().last() {
        None => Some(0),
        Some(line) => line.split(' ').next()?.parse().ok(),
    }
}

/// In words where a history leaves what the files say.
fn first_difference(applied: &str, whole: &str) -> String {
    let file = |line: &str| {
        let mut words = line.split(' ');
        format!("V{}__{}.sql", words.next().unwrap_or("?"), words.next().unwrap_or("?"))
    };
    let mut files = whole.lines();
    for line in applied.lines() {
        match files.next() {
            Some(known) if known == line => {}
            Some(known) if file(known) == file(line) => {
                return format!("{} was applied with another text than it has now", file(line));
            }
            _ => {
                return format!(
                    "{} was applied, and is not in its place among the files",
                    file(line)
                );
            }
        }
    }
    "its history does not follow the files".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = "1 create_a 11\n2 create_b 22\n10 create_c 33";

    #[test]
    fn a_history_stands_at_a_version_if_it_is_the_beginning_of_the_files() {
        for (applied, version) in [
            ("", Some(0)),
            ("1 create_a 11", Some(1)),
            ("1 create_a 11\n2 create_b 22", Some(2)),
            (FILES, Some(10)),
            ("1 create_a 1", None),
            ("1 create_a 12", None),
            ("2 create_b 22", None),
            ("1 create_a 11\n2 create_b 22\n10 create_c 33\n11 create_d 44", None),
        ] {
            assert_eq!(version_of(applied, FILES), version, "{applied:?}");
        }
    }

    #[test]
    fn a_history_that_leaves_the_files_says_where() {
        let say = |applied| first_difference(applied, FILES);
        assert_eq!(
            say("1 create_a 11\n2 create_b 99"),
            "V2__create_b.sql was applied with another text than it has now"
        );
        assert_eq!(
            say("1 create_a 11\n3 create_x 5"),
            "V3__create_x.sql was applied, and is not in its place among the files"
        );
        assert!(
            say(&format!("{FILES}\n11 create_d 44")).starts_with("V11__create_d.sql was applied")
        );
    }
}
