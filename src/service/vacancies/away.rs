//! Sets aside the vacancies of a node that is away, so that set-ups take those of other nodes.
//!
//! A set-up that takes a vacancy on a cluster asks its node before it commits. If the node is away, all vacancies on it are
//! set aside, and the set-up takes another. The job that keeps the stock asks again, and takes them back.

use time::OffsetDateTime;

use super::Vacancies;
use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::catalog::cluster;
use crate::pg::control::vacancies;
use crate::pg::schema::placement;
use crate::pg::{During, PublicTx};

const DURING: &str = "set vacancies of a node aside";

impl Vacancies {
    /// Sets aside the vacancies that are on the same node as this one, which was found to be away.
    pub(in crate::service) async fn set_node_aside(
        &self,
        vacancy: TenantId,
        now: OffsetDateTime,
    ) -> Result<()> {
        let tx = self.0.db.public().await.during(DURING)?;
        let ids = self.on_the_same_node(&tx, vacancy).await?;
        vacancies::set_away(&tx, &ids, now).await?;
        tx.commit().await.during(DURING)?;
        tracing::warn!(
            tenant.id = %vacancy,
            count = ids.len(),
            "the node of a vacancy is away; set-ups take none on it until it answers"
        );
        Ok(())
    }

    /// Takes back the vacancies of the node that was found to be away first, if it answers again.
    pub(super) async fn take_back_if_answered(&self) -> Result<()> {
        if !self.0.db.rules().engine.is_citus() {
            return Ok(());
        }
        let tx = self.0.db.public().await.during(DURING)?;
        let Some(first) = vacancies::list_away(&tx).await?.into_iter().next() else {
            return Ok(());
        };
        if !placement::answers(&tx, &SchemaName::of(first)).await.during(DURING)? {
            return Ok(());
        }
        let ids = self.on_the_same_node(&tx, first).await?;
        vacancies::clear_away(&tx, &ids).await?;
        tx.commit().await.during(DURING)?;
        tracing::info!(count = ids.len(), "the node of vacancies answers; set-ups take them again");
        Ok(())
    }

    /// The vacancies on the node of this one, itself included.
    async fn on_the_same_node(&self, tx: &PublicTx, vacancy: TenantId) -> Result<Vec<TenantId>> {
        if !self.0.db.rules().engine.has_nodes() {
            return Ok(vec![vacancy]);
        }
        let placements = cluster::placements(tx).await.during(DURING)?;
        let node = placements.get(&vacancy).copied().flatten();
        let is_there = |of: &Option<i32>| *of == node;
        let there = placements.iter().filter(|(_, of)| is_there(of)).map(|(id, _)| *id);
        Ok(there.chain([vacancy]).collect())
    }
}
