//! Poolers before the server. `make test-pooler` runs the suite behind one.

use rowhouse::pg::connect::dedicated::is_direct;

use crate::isolation::fixture::endpoint;
use crate::support::TestDatabase;
use crate::support::pooler::{self, StartupOptions};

#[tokio::test]
async fn a_pooler_is_recognized_whatever_it_does_with_startup_options() {
    let database = TestDatabase::create().await;
    for url in [database.url(), database.runtime_url()] {
        let found = async |url: &str| is_direct(&endpoint(url, None)).await;
        assert!(found(&url).await.expect("the server answers"), "{url}");
        for options in
            [StartupOptions::Refused, StartupOptions::Ignored, StartupOptions::SearchPathKept]
        {
            let behind = pooler::before(&url, options).await;
            let direct = found(&behind).await.expect("the server answers");
            assert!(!direct, "{options:?}");
        }
    }
}
