//! All audit events that match a filter, as lines of JSON or of CSV.
//!
//! The answer is read from the database page by page while it is sent, so that its size is not limited by memory.

use actix_web::http::header::ACCEPT;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream::try_unfold;
use time::format_description::well_known::Rfc3339;

use super::EventAnswer;
use crate::domain::error::{Error, Result};
use crate::domain::page::{Cursor, Window};
use crate::http::control::Answer;
use crate::http::control::call::Call;
use crate::http::csv;
use crate::service::audit::{Entry, Filter};

/// Events that are read at a time.
const AT_ONCE: u16 = 1000;

const HEADINGS: &str = "id,created_at,actor,actor_name,action,tenant_id,request_id,details\r\n";

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// An event a line, as JSON.
    Ndjson,
    /// An event a line, as CSV (RFC 4180), with headings.
    Csv,
}

impl Format {
    /// Returns the form that a request asks for; `None` for a page of JSON.
    pub(super) fn wanted(request: &HttpRequest) -> Option<Self> {
        let accept = request.headers().get(ACCEPT)?.to_str().ok()?;
        accept.split(',').find_map(|range| match range.split(';').next()?.trim() {
            "application/x-ndjson" => Some(Self::Ndjson),
            "text/csv" => Some(Self::Csv),
            _ => None,
        })
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    fn write(self, entries: Vec<Entry>) -> Result<String> {
        let unwritten = |error| Error::internal("write an audit event", error);
        let mut text = String::new();
        for entry in entries {
            match self {
                Self::Ndjson => {
                    let event = EventAnswer::from(entry);
                    text.push_str(&serde_json::to_string(&event).map_err(unwritten)?);
                    text.push('\n');
                }
                Self::Csv => {
                    let at = entry.at.format(&Rfc3339).unwrap_or_default();
                    let fields = [
                        entry.id.to_string(),
                        at,
                        entry.actor,
                        entry.actor_name.unwrap_or_default(),
                        entry.action,
                        entry.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
                        entry.request_id,
                        entry.details.to_string(),
                    ];
                    text.push_str(&fields.map(|field| csv::field(&field)).join(","));
                    text.push_str("\r\n");
                }
            }
        }
        Ok(text)
    }
}

/// What is left to send.
enum Rest {
    /// The first page, which was read before the answer began: a refusal has its status.
    First(String, Option<Cursor>),
    /// What follows a cursor.
    After(Cursor),
    Nothing,
}

/// Answers with all events that match the filter, from where the window begins.
pub(super) async fn export(call: &Call, filter: Filter, window: Window, format: Format) -> Answer {
    let (audit, ctx) = (call.services().audit.clone(), call.ctx.clone());
    let page = audit.list(&ctx, &filter, &Window { limit: AT_ONCE, ..window }).await?;
    let headings = if format == Format::Csv { HEADINGS } else { "" };
    let first = Rest::First([headings, &format.write(page.rows)?].concat(), page.next);
    let after = |next: Option<Cursor>| next.map_or(Rest::Nothing, Rest::After);
    let stream = try_unfold(first, move |rest| {
        let (audit, ctx, filter) = (audit.clone(), ctx.clone(), filter.clone());
        async move {
            let (text, next) = match rest {
                Rest::First(text, next) => (text, next),
                Rest::After(cursor) => {
                    let window = Window { after: Some(cursor), limit: AT_ONCE };
                    let page = audit.list(&ctx, &filter, &window).await?;
                    (format.write(page.rows)?, page.next)
                }
                Rest::Nothing => return Ok::<_, Error>(None),
            };
            Ok(Some((Bytes::from(text), after(next))))
        }
    });
    Ok(HttpResponse::Ok().content_type(format.content_type()).streaming(Box::pin(stream)))
}
