//! Makes a tenant of an archive.

use serde_json::json;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::io::AsyncRead;

use super::entries::{self, TenantValues};
use super::reader::Reader;
use super::row::Row;
use super::{Archives, OnProgress, load, manifest};
use crate::auth::CallContext;
use crate::domain::AuditAction;
use crate::domain::archive::{ArchiveProblem, Header, Manifest, MemberEntry, MemberKind};
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Email, ExternalId, SchemaName, Slug, TenantId, TenantName};
use crate::migrations::{Applied, HistoryError, MigrationSet};
use crate::pg::catalog::Object;
use crate::pg::control::tenants;
use crate::pg::portability::copy_in::{self, Loading};
use crate::pg::portability::{check, control};
use crate::pg::schema;
use crate::pg::schema::error::ApplyError;
use crate::pg::{During, PublicTx};
use crate::service::audit::{event, of_tenant};
use crate::service::doctor::diff;
use crate::service::fleet::to_error;
use crate::service::reference;

const IMPORT: &str = "import a tenant";

/// The command to make a tenant of an archive.
#[derive(Debug, Clone)]
pub struct ImportTenant {
    /// The slug of the new tenant.
    pub slug: Slug,
    /// Its name; `None` for that of the archive.
    pub name: Option<TenantName>,
    /// Its id in its creator's own system; `None` for that of the archive with [`NewId::Same`], and for none otherwise.
    pub external_id: Option<ExternalId>,
    /// Which id it gets.
    pub id: NewId,
    /// What becomes of the members.
    pub members: MemberPolicy,
    /// Whether it is suspended until an operator resumes it.
    pub suspended: bool,
    /// Tables of the archive that are not stored.
    pub leave_out: Vec<String>,
    /// The JSON Web Key Set of another installation whose archives are trusted.
    pub trust: Option<String>,
    /// Whether everything is rolled back at the end.
    pub dry_run: bool,
}

/// Which id an imported tenant gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewId {
    /// Another one.
    New,
    /// That of the archive, with the id in its creator's own system.
    Same,
}

/// What becomes of the members of an imported tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum MemberPolicy {
    /// Accounts with the same, proven address become members.
    Match,
    /// As [`Self::Match`]; missing accounts are created, without a password.
    Create,
    /// There are no members.
    None,
}

/// A tenant that was imported, or would be.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The tenant.
    pub id: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// The tables.
    pub tables: usize,
    /// The rows.
    pub rows: u64,
    /// The bytes of CSV.
    pub raw: u64,
    /// The version of its migrations.
    pub version: i32,
    /// The files that were applied to the imported rows.
    pub migrated: Vec<String>,
    /// How many accounts became members.
    pub members: usize,
    /// How many of these were created.
    pub created: usize,
    /// The addresses of members that have no account here, or one whose address is not proven.
    pub skipped: Vec<String>,
    /// What the archive lacks, in sentences.
    pub warnings: Vec<String>,
    /// The SHA-256 of the manifest, in hex.
    pub manifest_sha256: String,
}

/// What was read of an archive beside its rows.
struct Described {
    header: Header,
    values: TenantValues,
    members: Vec<(Email, MemberEntry)>,
}

impl Described {
    /// Returns the id that the tenant gets in its creator's own system.
    fn external_id<'a>(&'a self, command: &'a ImportTenant) -> Option<&'a ExternalId> {
        let of_archive = || match command.id {
            NewId::Same => self.values.external_id.as_ref(),
            NewId::New => None,
        };
        command.external_id.as_ref().or_else(of_archive)
    }
}

impl Archives {
    pub(super) async fn read_archive(
        &self,
        ctx: &CallContext,
        command: &ImportTenant,
        end: Option<OffsetDateTime>,
        input: &mut (dyn AsyncRead + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<Imported> {
        self.slugs.require_not_reserved(&command.slug)?;
        let mut reader = Reader::new(input);
        let header = entries::header(&mut reader).await?;
        let values = entries::tenant(&reader, &header)?;
        let members = entries::members(&mut reader).await?;
        let described = Described { header, values, members };
        let files = described.header.migrations.iter().cloned();
        let files = files.map(|file| Applied {
            version: file.version,
            name: file.name,
            checksum: file.checksum,
        });
        let set = self.set_of(&files.collect::<Vec<_>>())?;
        let migrated = self.migrated_objects(set.fingerprint(), ctx.now).await?;
        self.vacancies.new_tenants().require_fit(ctx.now).await?;
        let id = match command.id {
            NewId::New => TenantId::generate(),
            NewId::Same => TenantId::new(described.header.tenant.id),
        };
        let tx = self.db.public().await.during(IMPORT)?;
        self.require_importable(&tx, command, id, &described).await?;
        let schema = SchemaName::of(id);
        let expected = self.build(&tx, &schema, &set, migrated, ctx.now).await?;
        let rules = self.db.rules();
        let mut loading = Loading::enter(&tx, &schema, rules).await.during(IMPORT)?;
        let leave_out = &command.leave_out;
        load::require_same_structure(&described.header.tables, &loading.tables, leave_out)?;
        let header = &described.header;
        let found = load::rows(&mut reader, header, &mut loading, leave_out, on_progress).await?;
        let (manifest, text) = self.read_manifest(&mut reader, command).await?;
        let found = without_counts_of_left_out(found, &manifest);
        manifest::compare(&manifest, reader.digest(), &found)?;
        load::finish(&mut loading, &manifest, leave_out).await?;
        loading.leave().await.during(IMPORT)?;
        let migrated = self.migrate(&tx, &schema, ctx.now).await?;
        self.check(&tx, &schema, &expected).await?;
        let manifest_sha256 = hex::encode(Sha256::digest(&text));
        let imported = Imported {
            id,
            slug: command.slug.clone(),
            tables: manifest.tables.len(),
            rows: manifest.rows,
            raw: manifest.bytes,
            version: self.set.version(),
            migrated,
            members: 0,
            created: 0,
            skipped: Vec::new(),
            warnings: described.header.warnings.clone(),
            manifest_sha256,
        };
        self.make_tenant(tx, ctx, (command, end), &described, imported).await
    }

    /// Returns the part of the set with which the archive, or the tenant that is copied, was made.
    pub(super) fn set_of(&self, applied: &[Applied]) -> Result<MigrationSet> {
        let known = self.set.history();
        match self.set.pending(applied) {
            Ok(_pending) => {}
            Err(HistoryError::Ahead { .. }) => {
                let mut missing: Vec<&Applied> = applied
                    .iter()
                    .filter(|row| {
                        row.version > 0 && !known.iter().any(|k| k.version == row.version)
                    })
                    .collect();
                missing.sort_by_key(|row| row.version);
                let file = missing.first().map(|row| row.file()).unwrap_or_default();
                return Err(ArchiveProblem::Ahead { file }.into());
            }
            Err(differs) => return Err(ArchiveProblem::Diverged(differs.to_string()).into()),
        }
        let part = self.set.applied_part(applied);
        part.ok_or_else(|| Error::internal(IMPORT, "the files of the archive make no set"))
    }

    /// Refuses early what the database would refuse, or store otherwise, after all the work.
    async fn require_importable(
        &self,
        tx: &PublicTx,
        command: &ImportTenant,
        id: TenantId,
        described: &Described,
    ) -> Result<()> {
        let header = &described.header;
        if tenants::find_by_slug(tx, &command.slug).await?.is_some() {
            return Err(Error::Conflict(Conflict::SlugTaken));
        }
        if let Some(external_id) = described.external_id(command)
            && tenants::find_by_external_id(tx, external_id).await?.is_some()
        {
            return Err(Error::Conflict(Conflict::ExternalIdTaken));
        }
        if control::is_id_taken(tx, id).await? {
            return Err(ArchiveProblem::IdTaken.into());
        }
        let (_, encoding) = control::missing_extensions(tx, &[]).await?;
        if encoding != "UTF8" {
            return Err(ArchiveProblem::Encoding(encoding).into());
        }
        let unknown = |table: &&String| !header.tables.iter().any(|found| found.name == **table);
        match command.leave_out.iter().find(unknown) {
            Some(table) => {
                let what = format!("table {table} is to be left out, and the archive has none");
                Err(ArchiveProblem::Drifted(vec![what]).into())
            }
            None => Ok(()),
        }
    }

    /// Returns the objects that a schema with this fingerprint of its files has once it is migrated forward; `None` if it
    /// has all files.
    pub(super) async fn migrated_objects(
        &self,
        fingerprint: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Vec<Object>>> {
        if fingerprint == self.set.fingerprint() {
            return Ok(None);
        }
        let reference = reference::build(&self.db, &self.set, self.server_version, now).await?;
        Ok(Some(reference.map_err(ArchiveProblem::MigrationFailed)?.objects))
    }

    /// Builds the schema. Returns the objects that it must have in the end: those that it is migrated to, or else those
    /// that it has now.
    pub(super) async fn build(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        set: &MigrationSet,
        migrated: Option<Vec<Object>>,
        now: OffsetDateTime,
    ) -> Result<Vec<Object>> {
        let (rules, version) = (self.db.rules(), self.server_version);
        copy_in::build(tx, schema, set, rules, version, now).await.map_err(explain)?;
        match migrated {
            Some(objects) => Ok(objects),
            // Files were taken from it, or their row says otherwise.
            None if set.fingerprint() != self.set.fingerprint() => {
                Err(Error::Conflict(Conflict::Concurrent))
            }
            None => check::objects(tx, schema, rules.isolation).await.during(IMPORT),
        }
    }

    /// Reads the manifest and its signature, up to the end of the archive.
    async fn read_manifest(
        &self,
        reader: &mut Reader<'_>,
        command: &ImportTenant,
    ) -> Result<(Manifest, Vec<u8>)> {
        let text = reader.file(MemberKind::Manifest).await?;
        let jws = reader.file(MemberKind::Signature).await?;
        reader.finish().await?;
        manifest::require_signed(&self.db, &text, &jws, command.trust.as_deref()).await?;
        let manifest = serde_json::from_slice(&text)
            .map_err(|error| reader.invalid(format!("manifest.json cannot be read: {error}")))?;
        Ok((manifest, text))
    }

    /// Applies the files that the archive's schema did not have.
    pub(super) async fn migrate(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        now: OffsetDateTime,
    ) -> Result<Vec<String>> {
        schema::migrate(tx, schema, &self.set, self.db.rules(), now).await.map_err(explain)
    }

    /// Refuses a schema that is not what the migrations make, or that depends on another tenant.
    pub(super) async fn check(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        expected: &[Object],
    ) -> Result<()> {
        const DURING: &str = "check an imported schema";
        let objects = check::objects(tx, schema, self.db.rules().isolation).await.during(DURING)?;
        let differences = diff::compare(&objects, expected, |_, _| false);
        let mut wrong: Vec<String> = differences.into_iter().map(|found| found.what).collect();
        wrong.extend(check::leaning(tx, schema).await.during(DURING)?);
        if wrong.is_empty() { Ok(()) } else { Err(ArchiveProblem::CheckFailed(wrong).into()) }
    }

    /// Writes the tenant's row, its members and the audit event, and commits unless it is a dry run.
    async fn make_tenant(
        &self,
        tx: PublicTx,
        ctx: &CallContext,
        (command, expires_at): (&ImportTenant, Option<OffsetDateTime>),
        described: &Described,
        mut imported: Imported,
    ) -> Result<Imported> {
        let values = &described.values;
        let external_id = described.external_id(command);
        let name = command.name.as_ref().unwrap_or(&values.name);
        let actor = ctx.principal.label();
        let details = json!({
            "name": name,
            "from": described.header.tenant.slug,
            "rows": imported.rows,
            "manifest_sha256": imported.manifest_sha256,
        });
        let details = of_tenant(&command.slug, external_id, 1, details);
        let row = Row {
            id: imported.id,
            slug: &command.slug,
            name,
            org: values.org.as_deref(),
            contact: values.contact.as_ref(),
            external_id,
            settings: &values.settings,
            expires_at,
            event: event(ctx, &actor, AuditAction::TenantImport, None, details),
        };
        let tx = self.insert_tenant(tx, ctx, row).await?;
        if command.suspended {
            control::suspend(&tx, imported.id).await?;
        }
        add_members(&tx, ctx, command.members, &described.members, &mut imported).await?;
        if command.dry_run {
            return Ok(imported);
        }
        self.record(&tx, &imported, ctx.now).await?;
        tx.commit().await.during(IMPORT)?;
        let (id, slug) = (imported.id, &imported.slug);
        tracing::info!(tenant.id = %id, tenant.slug = %slug, principal = %actor, "imported a tenant");
        Ok(imported)
    }
}

/// Makes accounts with the addresses of the archive's members to members.
async fn add_members(
    tx: &PublicTx,
    ctx: &CallContext,
    policy: MemberPolicy,
    members: &[(Email, MemberEntry)],
    imported: &mut Imported,
) -> Result<()> {
    let vouched = ctx.principal.vouches().then_some(ctx.now);
    for (email, member) in members {
        match policy {
            MemberPolicy::None => return Ok(()),
            // An address that no caller vouches for would not be proven, and its account not linked.
            MemberPolicy::Create if vouched.is_some() => {
                let created = control::create_account(tx, member, email, vouched, ctx.now).await?;
                imported.created += usize::from(created);
            }
            MemberPolicy::Create | MemberPolicy::Match => {}
        }
        let id = imported.id;
        if control::link_member(tx, id, email, member.role, vouched, ctx.now).await? {
            imported.members += 1;
        } else {
            imported.skipped.push(email.to_string());
        }
    }
    Ok(())
}

/// Takes from the manifest the number of rows of tables that were left out: the server did not count them.
fn without_counts_of_left_out(
    found: Vec<crate::domain::archive::Rows>,
    manifest: &Manifest,
) -> Vec<crate::domain::archive::Rows> {
    let expected = manifest.tables.iter().map(|table| table.rows);
    let mut expected = expected.chain(std::iter::repeat(0));
    let mut found = found;
    for rows in &mut found {
        let expected = expected.next().unwrap_or_default();
        if rows.rows == u64::MAX {
            rows.rows = expected;
        }
    }
    found
}

fn explain(error: ApplyError) -> Error {
    match error {
        error @ (ApplyError::Failed { .. } | ApplyError::History(_)) => {
            ArchiveProblem::MigrationFailed(error.to_string()).into()
        }
        error => to_error(IMPORT, error),
    }
}
