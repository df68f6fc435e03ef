//! Lists the records of tenants page by page: which, and in which order.

use time::OffsetDateTime;

use super::{COLUMNS, RECORD_COLUMNS, record_from_row, uuids};
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Conditions on the tenants to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this status.
    pub status: Option<TenantStatus>,
    /// With exactly this slug.
    pub slug: Option<String>,
    /// With exactly this name.
    pub name: Option<String>,
    /// Created at this time or later.
    pub created_after: Option<OffsetDateTime>,
    /// Created before this time.
    pub created_before: Option<OffsetDateTime>,
    /// With this text in the name or the slug, in any case.
    pub q: Option<String>,
    /// In this order.
    pub order: Order,
}

/// The order of a list of tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Oldest,
    /// Newest first.
    Newest,
    /// By name, then by id.
    Name,
}

impl Order {
    /// All words.
    pub const WORDS: &[&str] = &["created_at", "-created_at", "name"];

    /// Reads a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "created_at" => Some(Self::Oldest),
            "-created_at" => Some(Self::Newest),
            "name" => Some(Self::Name),
            _ => None,
        }
    }

    /// The condition that a row follows the one with the time `$2` and the id `$3`, and the order.
    const fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Oldest => ("(t.created_at, t.id) > ($2, $3)", "t.created_at, t.id"),
            Self::Newest => ("(t.created_at, t.id) < ($2, $3)", "t.created_at DESC, t.id DESC"),
            Self::Name => {
                ("(t.name, t.id) > ((SELECT name FROM tenants WHERE id = $3), $3)", "t.name, t.id")
            }
        }
    }
}

/// Reads a page of the records, in the order of the filter; only those with the given ids where ids are given.
///
/// The statement is planned with its values, so that an absent condition costs nothing. By time, the index
/// `tenants_created_at_idx` gives the sort order, and reading ends with the last row of the page.
pub async fn list_records(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    filter: &Filter,
    window: &Window,
) -> Result<Vec<TenantRecord>> {
    let (follows, order) = filter.order.sql();
    let sql = format!(
        "SELECT {COLUMNS}, {RECORD_COLUMNS}
           FROM tenants t
          WHERE ($1::uuid[] IS NULL OR t.id = ANY ($1))
            AND ($2::timestamptz IS NULL OR {follows})
            AND ($4::text IS NULL OR t.status = $4)
            AND ($5::text IS NULL OR t.slug = $5)
            AND ($6::text IS NULL OR t.name = $6)
            AND ($7::timestamptz IS NULL OR t.created_at >= $7)
            AND ($8::timestamptz IS NULL OR t.created_at < $8)
            AND ($9::text IS NULL
                 OR strpos(lower(t.name), lower($9)) > 0 OR strpos(t.slug, lower($9)) > 0)
          ORDER BY {order}
          LIMIT $10"
    );
    let (at, after) = window.position();
    let rows = tx
        .query(
            &sql,
            &[
                &uuids(only),
                &at,
                &after,
                &filter.status.map(TenantStatus::as_str),
                &filter.slug,
                &filter.name,
                &filter.created_after,
                &filter.created_before,
                &filter.q,
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list tenant records")?;
    rows.iter().map(record_from_row).collect()
}
