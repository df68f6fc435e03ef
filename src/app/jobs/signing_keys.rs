//! The job that reads the keys which sign access tokens.

use std::time::Duration;

use super::{Job, Next};
use crate::service::SigningKeys;

/// How often the keys are read. With the jitter of a pause it is less than the age at which a request would read them.
const EVERY: Duration = Duration::from_secs(50);

/// Reads the keys, so that a new one is known before it signs and a retired one is refused. If it fails, requests read
/// the keys when they are a minute old.
pub(super) fn reload(keys: &SigningKeys) -> Job {
    Job::new("reload_signing_keys", EVERY, keys, |keys, ctx| async move {
        keys.reload(&ctx).await?;
        Ok(Next::AfterInterval)
    })
    .not_at_start()
}
