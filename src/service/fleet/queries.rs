//! Reads operations, and what became of their tenants.

use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::{OperationKind, OperationState};
use crate::domain::page::{Cursor, Page, Window};
use crate::pg::control::operation_tenants::{self, Filter as WorkFilter, Work};
use crate::pg::control::operations::{self, Record};
use crate::pg::error::During;
use crate::service::fleet::commands::Fleet;

impl Fleet {
    /// Reads an operation.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found.
    pub async fn read(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::ViewFleet)?;
        self.lookup(id).await
    }

    /// Finds the open operation.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn find_open(&self, ctx: &CallContext) -> Result<Option<Record>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("read open operation")?;
        operations::find_open(&tx, OperationKind::Migrate).await
    }

    /// Finds the newest operation.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn find_newest(&self, ctx: &CallContext) -> Result<Option<Record>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("read newest operation")?;
        operations::find_newest(&tx, OperationKind::Migrate).await
    }

    /// Lists a page of the operations, newest first.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(
        &self,
        ctx: &CallContext,
        state: Option<OperationState>,
        window: &Window,
    ) -> Result<Page<Record>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("list operations")?;
        let rows = operations::list(&tx, state, window).await?;
        Ok(Page::cut(rows, window, |record| Cursor { at: record.created_at, id: record.id }))
    }

    /// Lists a page of the tenants of an operation that match the filter.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found.
    pub async fn tenants(
        &self,
        ctx: &CallContext,
        id: Uuid,
        filter: &WorkFilter,
        window: &Window,
    ) -> Result<Page<Work>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("list tenants of an operation")?;
        let at = operations::find_created_at(&tx, id).await?;
        let at = at.ok_or(Error::NotFound(Noun::Operation))?;
        let rows = operation_tenants::list(&tx, id, filter, window).await?;
        Ok(Page::cut(rows, window, |work| Cursor { at, id: work.tenant.uuid() }))
    }
}
