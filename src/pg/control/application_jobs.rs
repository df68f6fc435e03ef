//! Statements on `public.application_jobs`: which server runs a job of an application, and when it is due.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Takes the lease of a job that is due and does not run; false if it is not, or runs.
pub async fn claim(
    tx: &PublicTx,
    name: &str,
    run: Uuid,
    now: OffsetDateTime,
    lease_until: OffsetDateTime,
) -> Result<bool> {
    let claimed = tx
        .execute(
            "INSERT INTO application_jobs AS j (name, due_at, run_id, lease_until)
             VALUES ($1, $3, $2, $4)
             ON CONFLICT (name) DO UPDATE SET run_id = $2, lease_until = $4
              WHERE j.due_at <= $3 AND (j.lease_until IS NULL OR j.lease_until <= $3)",
            &[&name, &run, &now, &lease_until],
        )
        .await
        .during("take the lease of a job")?;
    Ok(claimed == 1)
}

/// Extends the lease of a run; false if another run has taken it.
pub async fn renew(
    tx: &PublicTx,
    name: &str,
    run: Uuid,
    lease_until: OffsetDateTime,
) -> Result<bool> {
    let renewed = tx
        .execute(
            "UPDATE application_jobs SET lease_until = $3 WHERE name = $1 AND run_id = $2",
            &[&name, &run, &lease_until],
        )
        .await
        .during("renew the lease of a job")?;
    Ok(renewed == 1)
}

/// Gives the lease of a run back, and records when the job is due again and whether the run succeeded.
pub async fn finish(
    tx: &PublicTx,
    name: &str,
    run: Uuid,
    due_at: OffsetDateTime,
    succeeded_at: Option<OffsetDateTime>,
) -> Result<()> {
    tx.execute(
        "UPDATE application_jobs
            SET run_id = NULL, lease_until = NULL, due_at = $3,
                succeeded_at = COALESCE($4, succeeded_at)
          WHERE name = $1 AND run_id = $2",
        &[&name, &run, &due_at, &succeeded_at],
    )
    .await
    .during("end the lease of a job")?;
    Ok(())
}
