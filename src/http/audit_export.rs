//! All audit events that match a filter, as text that is read from the database page by page while it is sent, so that its
//! size is not limited by memory.

use actix_web::web::Bytes;
use futures_util::stream::{LocalBoxStream, try_unfold};
use time::format_description::well_known::Rfc3339;

use super::csv;
use crate::auth::CallContext;
use crate::domain::error::Result;
use crate::domain::page::{Cursor, Window};
use crate::service::audit::{Audit, Entry, Filter};

/// Events that are read at a time.
const AT_ONCE: u16 = 1000;

/// The first line of a CSV.
pub(super) const HEADINGS: &str =
    "id,created_at,actor,actor_name,action,tenant_id,tenant_slug,request_id,details\r\n";

/// Writes events as lines of CSV (RFC 4180).
pub(super) fn csv_lines(entries: Vec<Entry>) -> String {
    let mut text = String::new();
    for entry in entries {
        let fields = [
            entry.id.to_string(),
            entry.at.format(&Rfc3339).unwrap_or_default(),
            entry.actor,
            entry.actor_name.unwrap_or_default(),
            entry.action,
            entry.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            entry.tenant_slug.unwrap_or_default(),
            entry.request_id,
            entry.details.to_string(),
        ];
        text.push_str(&fields.map(|field| csv::field(&field)).join(","));
        text.push_str("\r\n");
    }
    text
}

/// What is left to send.
enum Rest {
    /// The first page, which was read before the answer began: a refusal has its status.
    First(String, Option<Cursor>),
    /// What follows a cursor.
    After(Cursor),
    Nothing,
}

/// Returns the text of all events that match the filter, from where the window begins: the headings, and each page as
/// `write` writes it.
///
/// # Errors
/// Those of the first page.
pub(super) async fn stream(
    audit: &Audit,
    ctx: &CallContext,
    filter: Filter,
    window: Window,
    headings: &str,
    write: impl Fn(Vec<Entry>) -> Result<String> + Copy + 'static,
) -> Result<LocalBoxStream<'static, Result<Bytes>>> {
    let (audit, ctx) = (audit.clone(), ctx.clone());
    let page = audit.list(&ctx, &filter, &Window { limit: AT_ONCE, ..window }).await?;
    let first = Rest::First([headings, &write(page.rows)?].concat(), page.next);
    let after = |next: Option<Cursor>| next.map_or(Rest::Nothing, Rest::After);
    let stream = try_unfold(first, move |rest| {
        let (audit, ctx, filter) = (audit.clone(), ctx.clone(), filter.clone());
        async move {
            let (text, next) = match rest {
                Rest::First(text, next) => (text, next),
                Rest::After(cursor) => {
                    let window = Window { after: Some(cursor), limit: AT_ONCE };
                    let page = audit.list(&ctx, &filter, &window).await?;
                    (write(page.rows)?, page.next)
                }
                Rest::Nothing => return Ok(None),
            };
            Ok(Some((Bytes::from(text), after(next))))
        }
    });
    Ok(Box::pin(stream))
}
