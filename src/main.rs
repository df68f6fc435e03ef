//! main
use rowhouse::app::{App, Options};
use rowhouse::config::{Overrides, Settings};
#[tokio::main]
async fn main() {
    rowhouse::telemetry::start(false, "info").unwrap();
    let settings = match Settings::load(&Overrides::default()) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("{e}");
            return;
        }
    };
    let app = match App::build(settings, Options::default()).await {
        Ok(a) => a,
        Err(e) => {
            eprintln!("{e}");
            return;
        }
    };
    println!("listening on http://{}", app.addr());
    app.run_until_stopped(async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await
    .unwrap();
}
