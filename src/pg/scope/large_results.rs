//! Results that do not fit into memory: rows as they arrive, and a portal from which they are fetched in portions.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio_postgres::{Row, RowStream};

use super::TenantTx;
use super::tx::Tx;
use crate::pg::error::Failure;
use crate::pg::scope::param::Param;

/// The rows of a query as they arrive. Dropped before the last one, it ends the connection with the transaction, unless that is
/// committed.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Rows<'a> {
    tx: &'a Tx,
    stream: Pin<Box<RowStream>>,
    is_done: bool,
}

impl Stream for Rows<'_> {
    type Item = Result<Row, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.stream.as_mut().poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            self.is_done = true;
            self.tx.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        Poll::Ready(next.map(|row| row.map_err(|error| self.tx.failed_in_stream(error))))
    }
}

/// A query from which rows are fetched in portions, by a cursor of the server.
#[must_use = "a portal returns rows when they are fetched"]
pub struct Portal<'a> {
    tx: &'a TenantTx,
    name: String,
}

impl Portal<'_> {
    /// Fetches the next rows, at most this many; none at the end.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn fetch(&self, most: u32) -> Result<Vec<Row>, Failure> {
        self.tx.tx.query(&format!("FETCH {most} FROM {}", self.name), &[]).await
    }

    /// Closes the cursor, which otherwise stays until the transaction ends.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn close(self) -> Result<(), Failure> {
        self.tx.tx.batch(&format!("CLOSE {}", self.name)).await
    }
}

impl TenantTx {
    /// Runs a query and returns its rows as they arrive, for results that are too large for memory.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn query_raw(&self, sql: &str, params: &[&dyn Param]) -> Result<Rows<'_>, Failure> {
        self.check(sql)?;
        let rows = Box::pin(self.tx.query_raw(sql, params).await?);
        self.tx.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Rows { tx: &self.tx, stream: rows, is_done: false })
    }

    /// Opens a portal on a query, from which rows are fetched in portions. Other statements can run in between.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn portal(&self, sql: &str, params: &[&dyn Param]) -> Result<Portal<'_>, Failure> {
        self.check(sql)?;
        let name = self.tx.next_savepoint();
        self.tx.execute(&format!("DECLARE {name} NO SCROLL CURSOR FOR {sql}"), params).await?;
        Ok(Portal { tx: self, name })
    }
}
