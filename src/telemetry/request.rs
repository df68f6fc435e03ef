//! The request that a task answers: its id, and its span, in which all its lines are logged. The caller and the tenant are
//! added as soon as they are known.

use std::cell::Cell;
use std::fmt::Display;

use tracing::Span;
use tracing::field::display;

use crate::domain::names::{TenantId, UserId};

tokio::task_local! {
    static ANSWERING: Answering;
}

/// A request that is being answered.
struct Answering {
    id: String,
    span: Span,
    has_tenant: Cell<bool>,
    has_caller: Cell<bool>,
}

/// Runs the work of a request, whose id and span are those of the task meanwhile.
pub async fn answering<F: Future>(id: String, span: Span, work: F) -> F::Output {
    let request =
        Answering { id, span, has_tenant: Cell::new(false), has_caller: Cell::new(false) };
    ANSWERING.scope(request, work).await
}

/// Returns the id of the current request; `None` outside of one. An error does not hold the request that caused it, and
/// a dialect writes the id into its errors.
#[must_use]
pub fn current_request_id() -> Option<String> {
    ANSWERING.try_with(|request| request.id.clone()).ok()
}

/// Logs the tenant of the current request from now on, if there is a request. The first tenant stays.
pub fn note_tenant(tenant: TenantId) {
    let _ = ANSWERING.try_with(|request| {
        if !request.has_tenant.replace(true) {
            request.span.record("tenant.id", display(tenant));
        }
    });
}

/// Logs the caller of the current request from now on, and the user where the caller is one or works for one.
pub fn note_caller(actor: &dyn Display, user: Option<UserId>) {
    let _ = ANSWERING.try_with(|request| {
        if request.has_caller.replace(true) {
            return;
        }
        request.span.record("actor", display(actor));
        if let Some(user) = user {
            request.span.record("user.id", display(user));
        }
    });
}
