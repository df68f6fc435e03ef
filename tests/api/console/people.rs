//! Members, invitations, and one's own account.

use super::browser::Browser;
use crate::support::{PASSWORD, TestApp};

const MEMBERS: &str = "/console/tenants/acme/members";

#[tokio::test]
async fn members_are_added_and_changed_and_the_last_admin_stays_with_the_reason() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let page = browser.get(MEMBERS).await.page();
    page.shows("The last admin stays.");
    let admin = page.between("<tr data-id=\"", "\"").to_owned();
    let remove = format!("{MEMBERS}/{admin}/remove");
    let refused = browser.post(&remove, &[]).await;
    assert_eq!(refused.status, 409);
    refused.shows("Make another member ADMIN first");
    let new_address = [("email", "new@acme.example.com"), ("role", "FDE")];
    let unknown = browser.post(MEMBERS, &new_address).await;
    assert_eq!(unknown.status, 400);
    unknown.shows("id=\"email-error\"");
    let person = [
        ("email", "new@acme.example.com"),
        ("role", "FDE"),
        ("first_name", "Nia"),
        ("last_name", "New"),
        ("password", PASSWORD),
    ];
    let page = browser.submit(MEMBERS, &person).await.page();
    page.shows("new@acme.example.com");
    let fde = Browser::signed_in(&app, "new@acme.example.com").await;
    fde.get("/console").await.page().shows("My tenants");
    let user = page.text.split("<tr data-id=\"").filter_map(|rest| rest.split('"').next());
    let user = user.skip(1).find(|id| *id != admin).unwrap().to_owned();
    let role = format!("{MEMBERS}/{user}/role");
    browser.submit(&role, &[("role", "ADMIN")]).await.page().shows("The role is changed.");
    browser.submit(&remove, &[]).await.page().shows("The member is removed.");
    let short = browser.post(&format!("{MEMBERS}/{user}/password"), &[("password", "short")]).await;
    assert_eq!(short.status, 400);
    let reset = [("password", "AnotherPass456!")];
    browser.submit(&format!("{MEMBERS}/{user}/password"), &reset).await.page();
    assert!(fde.get("/console").await.leads_to().contains("ended=1"));
}

#[tokio::test]
async fn an_admin_invites_by_a_link_whose_token_no_server_sees_and_a_person_accepts_it() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    browser.get(MEMBERS).await.page().does_not_show("Add member");
    let form = [("email", "ina@acme.example.com"), ("role", "FDE")];
    let page = browser.submit("/console/tenants/acme/invitations", &form).await.page();
    let link = page.between("id=\"link\" class=\"secret\" value=\"", "\"").to_owned();
    let (address, token) = link.split_once('#').unwrap();
    assert!(address.ends_with("/console/invitation"), "{link}");
    browser.get(MEMBERS).await.page().does_not_show(token);
    let person = Browser::new(&app);
    person.get("/console/invitation").await.page();
    let bad = person.post("/console/invitation", &[("token", token), ("first_name", "Ina")]).await;
    assert_eq!(bad.status, 400);
    bad.shows("value=\"Ina\"");
    bad.does_not_show(token);
    let good =
        [("token", token), ("first_name", "Ina"), ("last_name", "Invited"), ("password", PASSWORD)];
    assert_eq!(person.post("/console/invitation", &good).await.leads_to(), "/console/login");
    let used = person.post("/console/invitation", &good).await;
    assert_eq!(used.status, 410);
    let ina = Browser::signed_in(&app, "ina@acme.example.com").await;
    ina.get(MEMBERS).await.page().shows("ina@acme.example.com");
    // A user with an account accepts with it.
    app.set_up("other").await;
    let root = Browser::with_token(&app, &app.root_token).await;
    let page = root.submit("/console/tenants/other/invitations", &form).await.page();
    let link = page.between("id=\"link\" class=\"secret\" value=\"", "\"").to_owned();
    let (_, token) = link.split_once('#').unwrap();
    let accepted = ina.submit("/console/invitation", &[("as", "user"), ("token", token)]).await;
    accepted.page().shows("You are a member of");
}

#[tokio::test]
async fn a_user_changes_the_password_and_ends_the_other_sessions() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    let other = Browser::signed_in(&app, "admin@acme.example.com").await;
    let path = "/console/account/password";
    let wrong = [("current_password", "WrongPass123!"), ("new_password", "AnotherPass456!")];
    let refused = browser.post(path, &wrong).await;
    assert_eq!(refused.status, 401);
    refused.shows("id=\"current_password-error\"");
    refused.does_not_show("WrongPass123!");
    let right = [("current_password", PASSWORD), ("new_password", "AnotherPass456!")];
    let page = browser.submit(path, &right).await.page();
    page.shows("One other session has ended.");
    assert!(other.get("/console").await.leads_to().contains("ended=1"));
    let settings = [("theme", "dark")];
    let page = browser.submit("/console/account/settings", &settings).await.page();
    page.shows("<html lang=\"en\" data-theme=\"dark\">");
    page.shows("data-shortcuts=\"off\"");
    let own = page.between("<tr data-id=\"", "\"").to_owned();
    browser.post(&format!("/console/account/sessions/{own}/end"), &[]).await.leads_to();
    assert!(browser.get("/console").await.leads_to().contains("ended=1"));
}
