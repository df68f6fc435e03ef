//! Compares a file that ran half-way in a tenant with what it is now.
//!
//! The statements that ran are those at the start of the file, in its order. So a statement that was changed, moved or
//! deleted, and one that was inserted before others that ran, all show as a place where another statement ran than the
//! file has now.

use std::collections::BTreeMap;

use super::journal::{Entry, Journal, Step};
use super::{OnDemand, drop_index, find_index};
use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;

/// A file that may have been edited since it ran half-way.
pub(super) struct Edited<'a> {
    pub(super) journal: &'a Journal<'a>,
    pub(super) schema: &'a SchemaName,
    /// The statements that the file has now.
    pub(super) steps: &'a [Step<'a>],
    /// The statements that were started, by position.
    pub(super) entries: &'a BTreeMap<i32, Entry>,
}

/// A statement that ran and is another one now.
pub(super) struct Changed {
    /// The line of the statement that is at its place now, if there is one.
    pub(super) line: Option<usize>,
    /// What ran, and what to do.
    pub(super) message: String,
}

impl Edited<'_> {
    /// Removes what changed statements have left that did not succeed: an invalid index. Returns the first statement
    /// that did succeed and is another one now.
    pub(super) async fn settle(
        &self,
        connection: &mut OnDemand<'_>,
    ) -> Result<Result<(), Changed>, ApplyError> {
        for (position, entry) in self.entries {
            if self.at(*position).is_some_and(|step| entry.is_about(step)) {
                if entry.is_done && !entry.has_digest() {
                    tracing::warn!(
                        tenant.id = %self.journal.tenant,
                        version = self.journal.version,
                        position,
                        "a statement that an older program ran has no digest; it is recognized by its place"
                    );
                }
                continue;
            }
            if entry.is_done || self.has_succeeded(entry).await? {
                return Ok(Err(self.changed(*position, entry)));
            }
            if let Some(index) = &entry.created_index {
                drop_index(connection.open().await?, index).await?;
            }
            self.journal.withdraw(*position).await?;
        }
        Ok(Ok(()))
    }

    fn at(&self, position: i32) -> Option<&Step<'_>> {
        self.steps.get(usize::try_from(position - 1).ok()?)
    }

    /// Whether a statement that was started outside a transaction has succeeded, although the journal does not say so.
    async fn has_succeeded(&self, entry: &Entry) -> Result<bool, Failure> {
        let tx = self.journal.db.public().await?;
        Ok(match (&entry.created_index, &entry.dropped_index) {
            (Some(index), _) => find_index(&tx, self.schema, index).await? == Some(true),
            (None, Some(index)) => find_index(&tx, self.schema, index).await?.is_none(),
            (None, None) => false,
        })
    }

    fn changed(&self, position: i32, entry: &Entry) -> Changed {
        let now = self.at(position);
        let line = |step: &Step<'_>| step.statement.line;
        let ran = match entry.summary.as_deref() {
            Some(summary) if !summary.is_empty() => format!(" as `{summary}`"),
            _ => String::new(),
        };
        let moved = self.steps.iter().find(|now| entry.has_digest() && entry.is_about(now));
        let became = match (moved.map(line), now) {
            (Some(line), _) => format!("is on line {line} now"),
            (None, Some(_)) => "is another one now".to_owned(),
            (None, None) => "is not in the file any more".to_owned(),
        };
        let (version, tenant) = (self.journal.version, self.journal.tenant);
        Changed {
            line: now.map(line),
            message: format!(
                "statement {position} of the file ran in this tenant{ran} and {became}. Put it back (it will not run \
                 again) and write what is missing behind it; or undo what the statements did that ran, and let the \
                 file run from its start: `rowhouse migrate repair --forget-statements V{version} --tenant {tenant} \
                 --yes`"
            ),
        }
    }
}
