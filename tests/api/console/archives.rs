//! Archives in the console: a tenant is exported, and its archive fetched, checked and deleted.

use std::time::Duration;

use super::browser::{Browser, Shown};
use crate::support::TestApp;

const ARCHIVES: &str = "/console/archives";

/// Waits until no archive of the list is written or checked.
async fn settled(browser: &Browser, path: &str) -> Shown {
    loop {
        let page = browser.get(path).await.page();
        if !page.text.contains("data-poll=") {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the id in the first row of a list.
fn first(page: &Shown) -> String {
    let rest = page.text.split("data-id=\"").nth(1).expect("the list has a row");
    rest.split('"').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_tenant_is_exported_and_its_archive_fetched_checked_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = folder.path().display().to_string();
    let app = TestApp::builder().with("archives.store", store).spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let root = Browser::with_token(&app, &app.root_token).await;
    let admin = Browser::signed_in(&app, &acme.admin_email).await;
    root.get(ARCHIVES).await.page().shows("No archive yet");
    for browser in [&root, &admin] {
        let page = browser.get("/console/tenants/acme").await.page();
        page.shows("action=\"/console/tenants/acme/archives\"");
        let begun = browser.post("/console/tenants/acme/archives", &[]).await;
        let of_tenant = format!("{ARCHIVES}?tenant={}", acme.id);
        assert_eq!((begun.status, begun.header("location")), (303, Some(of_tenant.as_str())));
        let page = settled(browser, &of_tenant).await;
        page.shows(">ready</span>");
        page.shows("download>Download</a>");
        let content = format!("{ARCHIVES}/{}/content", first(&page));
        let fetched = browser.get(&content).await;
        assert_eq!(
            (fetched.status, fetched.header("content-type")),
            (200, Some("application/x-tar"))
        );
        let disposition = fetched.header("content-disposition");
        assert_eq!(disposition, Some("attachment; filename=\"acme.rowhouse.tar\""));
    }
    // What an admin of the tenant may not do is not offered, and another tenant's is not there.
    let page = admin.get(ARCHIVES).await.page();
    page.does_not_show("/verify\"");
    page.does_not_show("/delete\"");
    let id = first(&page);
    let stranger = Browser::signed_in(&app, &other.admin_email).await;
    stranger.get(ARCHIVES).await.page().shows("No archive yet");
    assert_eq!(stranger.get(&format!("{ARCHIVES}/{id}/content")).await.status, 404);
    assert_eq!(stranger.post("/console/tenants/acme/archives", &[]).await.status, 404);
    let verify = root.post(&format!("{ARCHIVES}/{id}/verify"), &[]).await;
    assert_eq!(verify.status, 303, "{verify:?}");
    settled(&root, ARCHIVES).await.shows(">passed</span>");
    root.get(&format!("{ARCHIVES}?kind=upload&state=ready"))
        .await
        .page()
        .shows("No archive matches");
    let delete = format!("{ARCHIVES}/{id}/delete");
    root.get(&delete).await.page().shows("cannot be undone");
    assert_eq!(root.post(&delete, &[]).await.status, 303);
    root.get(ARCHIVES).await.page().does_not_show(&id);
    assert_eq!(root.get(&delete).await.status, 404);
}
