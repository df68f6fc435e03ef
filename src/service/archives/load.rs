//! Loads the rows of an archive into a schema that was just built, and reads them back.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::export::{AUDIT, audit_part, table_part};
use super::reader::Reader;
use super::unpack::Unpacker;
use super::{OnProgress, Progress};
use crate::domain::archive::{ArchiveProblem, Header, Manifest, MemberKind, Rows, Table};
use crate::domain::error::{Error, Result};
use crate::pg::portability::copy_in::Loading;
use crate::pg::portability::tables;
use crate::pg::portability::{RowBlock, RowSink};
use crate::pg::{During, Failure};

/// Refuses an archive whose tables are not those that the migrations make, apart from those that are left out.
pub(super) fn require_same_structure(
    found: &[Table],
    made: &[tables::Table],
    leave_out: &[String],
) -> Result<()> {
    let mut drifted = Vec::new();
    for table in found.iter().filter(|table| !leave_out.contains(&table.name)) {
        match made.iter().find(|made| made.name == table.name) {
            None => drifted.push(format!("table {} is made by no migration", table.name)),
            Some(made) => drifted.extend(different_columns(table, made)),
        }
    }
    for made in made {
        if !found.iter().any(|table| table.name == made.name) {
            drifted.push(format!("table {} is missing in the archive", made.name));
        }
    }
    if drifted.is_empty() { Ok(()) } else { Err(ArchiveProblem::Drifted(drifted).into()) }
}

fn different_columns(table: &Table, made: &tables::Table) -> Vec<String> {
    let mut drifted = Vec::new();
    for column in &table.columns {
        let (name, of) = (&column.name, &table.name);
        match made.columns.iter().find(|made| made.name == *name) {
            None => drifted.push(format!("column {name} of {of} is made by no migration")),
            Some(made) if made.kind != column.kind => drifted.push(format!(
                "column {name} of {of} is {}, and the migrations make {}",
                column.kind, made.kind
            )),
            Some(_) => {}
        }
    }
    for column in &made.columns {
        if !table.columns.iter().any(|found| found.name == column.name) {
            drifted.push(format!(
                "column {} of {} is missing in the archive",
                column.name, table.name
            ));
        }
    }
    let order = |names: Vec<&str>| names.join(",");
    if drifted.is_empty()
        && order(table.columns.iter().map(|column| column.name.as_str()).collect())
            != order(made.columns.iter().map(|column| column.name.as_str()).collect())
    {
        drifted.push(format!("the columns of {} have another order", table.name));
    }
    drifted
}

/// Loads the rows of all tables, and reads the audit events, which are not stored. Returns what was read.
pub(super) async fn rows(
    reader: &mut Reader<'_>,
    header: &Header,
    loading: &mut Loading<'_>,
    leave_out: &[String],
    on_progress: OnProgress<'_>,
) -> Result<Vec<Rows>> {
    let is_loaded = |table: &&Table| !leave_out.contains(&table.name);
    let loaded = header.tables.iter().filter(is_loaded);
    let estimates: Vec<(&str, i64)> =
        loaded.map(|table| (table.name.as_str(), table.estimate)).collect();
    loading.prepare(&estimates).await.during("prepare the tables of an import")?;
    let mut progress = Progress { of: header.tables.len(), ..Progress::default() };
    let mut found = Vec::new();
    for (at, table) in header.tables.iter().enumerate() {
        let which = (at, table_part as fn(usize, usize) -> MemberKind);
        let mut source = Unpacker::new(reader, which, &table.name, &mut progress, on_progress)?;
        let made = loading.tables.iter().find(|made| made.name == table.name);
        let stored = match made.filter(|_| is_loaded(&table)) {
            Some(made) => {
                let stored = loading.load(made, &mut source).await;
                Some(stored.map_err(|failure| refused(&table.name, failure))??)
            }
            None => None,
        };
        let mut rows = source.finish().await?;
        // Rows that are left out are not counted.
        rows.rows = stored.unwrap_or(u64::MAX);
        progress.rows += stored.unwrap_or_default();
        progress.tables += 1;
        on_progress(progress);
        found.push(rows);
    }
    let which = (0, audit_part as fn(usize, usize) -> MemberKind);
    let source = Unpacker::new(reader, which, AUDIT, &mut progress, &|_| ())?;
    found.push(source.finish().await?);
    Ok(found)
}

/// Sets the sequences, makes indexes and keys again, and compares what is stored with the manifest.
pub(super) async fn finish(
    loading: &mut Loading<'_>,
    manifest: &Manifest,
    leave_out: &[String],
) -> Result<()> {
    let known = |name: &String| loading.sequences.iter().any(|sequence| sequence.name == *name);
    let names = manifest.sequences.iter().map(|state| &state.name);
    let unknown: Vec<String> = names
        .filter(|name| !known(name) && !is_of_left_out(name, leave_out))
        .map(|name| format!("sequence {name} is made by no migration"))
        .collect();
    if !unknown.is_empty() {
        return Err(ArchiveProblem::Drifted(unknown).into());
    }
    loading.set_sequences(&manifest.sequences).await.during("set the sequences of an import")?;
    loading.finish().await.map_err(|failure| refused("the tenant", failure))?;
    for table in &manifest.tables {
        let Some(made) = loading.tables.iter().find(|made| made.name == table.name) else {
            continue;
        };
        let mut back = Back::default();
        match loading.read_back(made, &mut back).await.during("read imported rows back")? {
            Ok(()) => {}
            Err(never) => match never {},
        }
        if hex::encode(back.hash.finalize()) != table.sha256 {
            let member = table.name.clone();
            return Err(
                ArchiveProblem::Digest { member, what: "digest after it was stored" }.into()
            );
        }
    }
    Ok(())
}

/// Whether a sequence has the name that the server gives one of a column of a table that is left out.
fn is_of_left_out(sequence: &str, leave_out: &[String]) -> bool {
    leave_out.iter().any(|table| sequence.starts_with(&format!("{table}_")))
}

/// Hashes rows that are read back, without the line of names.
#[derive(Default)]
struct Back {
    hash: Sha256,
}

impl RowSink for Back {
    type Error = std::convert::Infallible;

    async fn names(&mut self, _line: Bytes) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn rows(&mut self, block: RowBlock) -> Result<(), Self::Error> {
        self.hash.update(&block.bytes);
        Ok(())
    }
}

/// Tells rows that the server refuses from a failure of the database.
pub(super) fn refused(table: &str, failure: Failure) -> Error {
    if failure.is_unavailable() || failure.is_retryable() || failure.sqlstate().is_none() {
        return failure.during("load the rows of an import");
    }
    let why = failure.server_message();
    ArchiveProblem::RowsRefused { table: table.to_owned(), why }.into()
}
