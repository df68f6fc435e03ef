//! The network between a server and its database.

use std::time::Duration;

use crate::proxy::Network;
use crate::stage::{Length, Setup, Stage};

async fn with_proxy() -> Stage {
    let mut stage = Stage::open(Setup { is_proxied: true, ..Setup::default() }).await;
    stage.load().await;
    stage
}

pub(crate) async fn connections_are_reset(name: &'static str, length: Length) {
    let mut stage = with_proxy().await;
    for _ in 0..length.rounds(3) {
        stage
            .fault(async |stage| {
                stage.proxy().set(Network::Resets);
                tokio::time::sleep(Duration::from_millis(300)).await;
                stage.proxy().set(Network::Works);
            })
            .await;
    }
    stage.finish(name).await;
}

/// Requests take longer, and none fails.
pub(crate) async fn the_network_is_slow(name: &'static str, length: Length) {
    let mut stage = with_proxy().await;
    for _ in 0..length.rounds(1) {
        let before = stage.shared.stats.count("ok");
        stage.proxy().set(Network::Slow(Duration::from_millis(15)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.proxy().set(Network::Works);
        if stage.shared.stats.count("ok") == before {
            stage.problems.push("no request succeeds on a slow network".to_owned());
        }
    }
    stage.finish(name).await;
}

/// Once for less than the time limits, so that requests wait, and once for more.
pub(crate) async fn the_network_swallows_everything(name: &'static str, length: Length) {
    let mut stage = with_proxy().await;
    for _ in 0..length.rounds(1) {
        for silence in [Duration::from_millis(300), Duration::from_millis(3500)] {
            stage
                .fault(async |stage| {
                    stage.proxy().set(Network::Swallows);
                    tokio::time::sleep(silence).await;
                    stage.proxy().set(Network::Works);
                })
                .await;
        }
    }
    stage.finish(name).await;
}

/// The network forgets all connections and tells neither end; new ones work.
pub(crate) async fn the_network_forgets_connections(name: &'static str, length: Length) {
    let mut stage = with_proxy().await;
    for _ in 0..length.rounds(1) {
        stage
            .fault(async |stage| {
                stage.proxy().set(Network::Swallows);
                tokio::time::sleep(Duration::from_millis(300)).await;
                stage.proxy().forget_connections();
                stage.proxy().set(Network::Works);
            })
            .await;
    }
    stage.finish(name).await;
}
