//! Looks after the stock of vacancies for as long as the server runs, and never hurries: after each piece
//! of work it rests for as long as the work took, so that it is at most half of one connection's load, and
//! slows down with the database. While the database fails it comes back ever later.

use std::time::{Duration, Instant};

use crate::app::Backend;
use crate::service::vacancies::Tended;

/// How often it looks where nobody asks: at what other processes did, and at what a deployment left.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long set-ups that follow each other closely are waited for, so that one look serves them all.
const GATHER: Duration = Duration::from_millis(100);
/// The pause after a first failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(1);
/// How long the end of a server waits for its last word to the other keepers, who notice anyway.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Keeps the stock in order. Dropped in the middle of a piece of work, that piece is rolled back.
pub(in crate::app) async fn keep_for_ever(backend: &Backend) {
    let vacancies = &backend.services.vacancies;
    let mut pause = FIRST_PAUSE;
    loop {
        let begin = Instant::now();
        match Box::pin(vacancies.tend(&backend.operator())).await {
            Ok(Tended::Worked) => {
                pause = FIRST_PAUSE;
                tokio::time::sleep(begin.elapsed()).await;
            }
            Ok(Tended::Done | Tended::Busy) => {
                pause = FIRST_PAUSE;
                if tokio::time::timeout(LOOK_EVERY, vacancies.asked()).await.is_ok() {
                    tokio::time::sleep(GATHER).await;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "could not look after the vacancies");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// Tells the other keepers that this one goes.
pub(in crate::app) async fn retire(backend: &Backend) {
    let work = backend.operator();
    let retiring = backend.services.vacancies.retire(&work);
    match tokio::time::timeout(LAST_WORD, retiring).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(error = %error.chain(), "could not say goodbye to the other keepers");
        }
        Err(_elapsed) => tracing::debug!("there was no time to say goodbye to the other keepers"),
    }
}
