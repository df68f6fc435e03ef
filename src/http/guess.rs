//! Set-ups that may try the admin's password, and count a wrong one as a guess.

use actix_web::HttpRequest;

use super::extract::{client, site};
use crate::domain::error::{Conflict, Error, Result};
use crate::service::provisioning::{Admin, ProvisionTenant};

/// Runs a set-up. Where the admin's account is not proven and the command has a password, runs it again with leave to
/// try the password, which counts as a log-in attempt. So only such a set-up is limited, and the others are not.
///
/// # Errors
/// Those of `run`; [`Error::TooMany`].
pub(super) async fn set_up<T>(
    request: &HttpRequest,
    command: ProvisionTenant,
    run: impl AsyncFn(ProvisionTenant) -> Result<T>,
) -> Result<T> {
    let refused = match run(command.clone()).await {
        Err(refused @ Error::Conflict(Conflict::AdminUnproven)) => refused,
        outcome => return outcome,
    };
    let Admin::NewOrExisting(admin) = &command.admin else { return Err(refused) };
    let attempt = site(request).limits.password(admin.email.as_str(), client(request)).await?;
    let outcome = run(ProvisionTenant { tries_password: true, ..command.clone() }).await;
    attempt.close(matches!(outcome, Err(Error::Conflict(Conflict::AdminUnproven))));
    outcome
}
