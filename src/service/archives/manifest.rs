//! Checks what was read against the manifest, and who signed the manifest.

use crate::auth::detached;
use crate::domain::archive::{ArchiveProblem, FORMAT, Manifest, Rows};
use crate::domain::error::Result;
use crate::pg::portability::control;
use crate::pg::{Db, During};

/// Refuses a manifest that no key signed that is trusted: one of this installation, or one of a given set.
pub(super) async fn require_signed(
    db: &Db,
    manifest: &[u8],
    jws: &[u8],
    trust: Option<&str>,
) -> Result<()> {
    let refuse = |why: &str| Err(ArchiveProblem::Signature(why.to_owned()).into());
    let Ok(jws) = std::str::from_utf8(jws) else { return refuse("it is not text") };
    let Some(kid) = detached::key_id(jws) else { return refuse("it is not one of an archive") };
    let tx = db.public().await.during("read the key of an archive")?;
    let own = control::find_key(&tx, &kid).await?;
    drop(tx); // it only read
    let trusted = trust.and_then(|set| detached::find_in_set(set, &kid));
    match own.or(trusted) {
        None => refuse(&format!(
            "the key {kid} is not one of this installation; trust the key set of the one that wrote the archive"
        )),
        Some(key) if detached::verifies(jws, manifest, &key) => Ok(()),
        Some(_) => refuse(&format!("the key {kid} did not sign this manifest")),
    }
}

/// Whether a key of this installation signed the manifest. One that another installation signed is not refused.
///
/// # Errors
/// [`ArchiveProblem::Signature`] if the signature has another form, or names a key of ours that did not make it.
pub(super) async fn is_signed_here(db: &Db, manifest: &[u8], jws: &[u8]) -> Result<bool> {
    let refuse = |why: &str| Err(ArchiveProblem::Signature(why.to_owned()).into());
    let Ok(jws) = std::str::from_utf8(jws) else { return refuse("it is not text") };
    let Some(kid) = detached::key_id(jws) else { return refuse("it is not one of an archive") };
    let tx = db.public().await.during("read the key of an archive")?;
    match control::find_key(&tx, &kid).await? {
        None => Ok(false),
        Some(key) if detached::verifies(jws, manifest, &key) => Ok(true),
        Some(_) => refuse(&format!("the key {kid} did not sign this manifest")),
    }
}

/// Compares what was read with the manifest. `found` are the tables in the order of the header, and the audit events
/// last. Rows of parts are compared as their sum, those of audit events not at all.
pub(super) fn compare(manifest: &Manifest, digest: &str, found: &[Rows]) -> Result<()> {
    let differs =
        |member: &str, what| Err(ArchiveProblem::Digest { member: member.to_owned(), what }.into());
    if manifest.format != FORMAT {
        return differs("manifest.json", "format");
    }
    let expected: Vec<&Rows> = manifest.tables.iter().chain([&manifest.audit]).collect();
    if expected.len() != found.len() {
        return differs("manifest.json", "number of tables");
    }
    for (at, (expected, found)) in expected.iter().zip(found).enumerate() {
        let is_audit = at + 1 == found_len(manifest);
        let name = found.name.as_str();
        if expected.name != name {
            return differs(name, "name");
        }
        let packed = |rows: &Rows| -> Vec<(u64, u64, String)> {
            rows.parts.iter().map(|part| (part.bytes, part.packed, part.sha256.clone())).collect()
        };
        if packed(expected) != packed(found) {
            return differs(name, "digest of a part");
        }
        if (expected.bytes, &expected.sha256) != (found.bytes, &found.sha256) {
            return differs(name, "digest");
        }
        let sum: u64 = expected.parts.iter().map(|part| part.rows).sum();
        if sum != expected.rows || (!is_audit && expected.rows != found.rows) {
            return differs(name, "number of rows");
        }
    }
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    let bytes: u64 = manifest.tables.iter().map(|table| table.bytes).sum();
    if (rows, bytes) != (manifest.rows, manifest.bytes) {
        return differs("manifest.json", "total");
    }
    if manifest.sha256 != digest {
        return differs("the archive", "digest");
    }
    Ok(())
}

/// The number of tables, with the audit events.
const fn found_len(manifest: &Manifest) -> usize {
    manifest.tables.len() + 1
}
