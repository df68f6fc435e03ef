//! The job and the command that erase deleted notes, and the metrics.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use rowhouse::{Context, Problem};

use crate::Settings;

pub(crate) static NOTES_ADDED: LazyLock<Counter> = LazyLock::new(Counter::default);
static NOTES_ERASED: LazyLock<Counter> = LazyLock::new(Counter::default);

pub(crate) fn register(registry: &mut rowhouse::Registry) {
    registry.register("notes_added", "Notes added", NOTES_ADDED.clone());
    registry.register("notes_erased", "Notes erased", NOTES_ERASED.clone());
}

/// The commands of the program beside those of every rowhouse server.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Erase the notes that were deleted some days ago, in all tenants
    Sweep,
}

pub(crate) async fn run(command: Command, context: Context) -> Result<(), Problem> {
    match command {
        Command::Sweep => sweep(context).await,
    }
}

pub(crate) async fn sweep(context: Context) -> Result<(), Problem> {
    let keep = context.settings::<Settings>()?.keep_days;
    let report = context
        .for_each_tenant(4, async |tx| {
            let sql =
                "DELETE FROM notes WHERE deleted_at < $1 - make_interval(days => $2::int8::int4)";
            let erased = tx.execute(sql, &[&tx.now(), &keep]).await?;
            tx.commit().await?;
            NOTES_ERASED.inc_by(erased);
            Ok(())
        })
        .await?;
    report.into_result()
}
