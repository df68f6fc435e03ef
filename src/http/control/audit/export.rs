//! All audit events that match a filter, as lines of JSON or of CSV.

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse};

use super::EventAnswer;
use crate::domain::error::{Error, Result};
use crate::domain::page::Window;
use crate::http::audit_export;
use crate::http::control::Answer;
use crate::http::control::call::Call;
use crate::service::audit::{Entry, Filter};

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
        match self {
            Self::Ndjson => json_lines(entries),
            Self::Csv => Ok(audit_export::csv_lines(entries)),
        }
    }
}

fn json_lines(entries: Vec<Entry>) -> Result<String> {
    let unwritten = |error| Error::internal("write an audit event", error);
    let mut text = String::new();
    for entry in entries {
        text.push_str(&serde_json::to_string(&EventAnswer::from(entry)).map_err(unwritten)?);
        text.push('\n');
    }
    Ok(text)
}

/// Answers with all events that match the filter, from where the window begins.
pub(super) async fn export(call: &Call, filter: Filter, window: Window, format: Format) -> Answer {
    let headings = if format == Format::Csv { audit_export::HEADINGS } else { "" };
    let write = move |entries| format.write(entries);
    let audit = &call.services().audit;
    let events = audit_export::stream(audit, &call.ctx, filter, window, headings, write).await?;
    Ok(HttpResponse::Ok().content_type(format.content_type()).streaming(events))
}
