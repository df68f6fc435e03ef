//! Checks a connection out of a pool: waits for a permit, then takes a connection or opens one. The one loop for the pools
//! of both logins.

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};

use super::permits::{Permit, Permits, Request};
use super::shortage::{RETRY_AFTER, Shortage};
use super::take;
use crate::pg::error::Failure;

/// Waits for a permit, has `choose` say with which pool it is used, and takes a connection from that. While the server has
/// none left, waits for another permit. `open` counts the connections of the pools that `choose` chooses among.
///
/// # Errors
/// [`Failure::TenantBusy`] or [`Failure::NoConnection`] if none is free in time, [`Failure::Pool`] if a new one cannot be
/// opened.
pub(super) async fn check_out<P: AsMut<Permit>>(
    permits: &Arc<Permits>,
    request: &mut Request,
    shortage: &Shortage,
    open: impl Fn() -> usize,
    choose: impl Fn(Permit) -> (P, Pool),
) -> Result<(P, Object), Failure> {
    let mut full = None;
    loop {
        let permit = permits.acquire(request).await;
        // That the server is full explains more than that the wait is over.
        let permit = permit.map_err(|denied| full.take().unwrap_or_else(|| denied.into()))?;
        let (mut permit, pool) = choose(permit);
        let has_one = pool.status().available > 0;
        if has_one || shortage.may_open() {
            match take(&pool).await {
                Ok(object) => return Ok((permit, object)),
                Err(failure) if failure.is_server_full() => {
                    shortage.refused();
                    full = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        permit.as_mut().withhold(RETRY_AFTER);
        shortage.report(open());
    }
}
