//! Renders a page in its frame, and a part of a page for the script of the console.

use actix_web::HttpResponse;
use actix_web::cookie::Cookie;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, REFERRER_POLICY,
};
use askama::Template;
use sha2::{Digest, Sha256};

use super::call::Call;
use super::frame::{Area, Frame, Link, Person};
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::http::extract;
use crate::service::console_sessions::Account;

/// Allows scripts, styles and data of this server alone, none of them inline. `console.js` makes the one policy of
/// Trusted Types.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types default";

const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// The seconds after which a browser without scripts loads a page with changing content again.
const RELOAD: u64 = 5;

/// A page that is being made.
pub(super) struct Page<'a> {
    call: &'a Call,
    area: Area,
    title: String,
    alternates: Vec<String>,
    changes: bool,
}

impl Call {
    /// Begins a page.
    pub(super) fn page(&self, area: Area, title: impl Into<String>) -> Page<'_> {
        Page { call: self, area, title: title.into(), alternates: Vec::new(), changes: false }
    }

    /// Returns the account in the header.
    fn person(&self) -> Option<Person> {
        let (name, role, is_root) = match self.account.as_ref()? {
            Account::User { email, platform_role } => {
                (email.to_string(), platform_role.map_or("", |role| role.as_str()), false)
            }
            Account::Token(name) => (name.clone(), "token", false),
            Account::Root => ("root".to_owned(), "", true),
        };
        Some(Person { name, role: role.to_owned(), is_root })
    }

    /// Whether the navigation leads to an area: where the caller may never do anything, it does not.
    fn is_linked(&self, area: Area) -> bool {
        match area {
            Area::Overview => self.account.is_some(),
            Area::Tenants => self.may(Permission::ViewTenants),
            Area::Tokens => self.may(Permission::ManageApiKeys),
            Area::Archives => self.may(Permission::ExportTenant),
            Area::Audit => self.may(Permission::ViewAudit),
            Area::Migrations | Area::Vacancies | Area::Health | Area::Server => {
                self.may_everywhere(Permission::ViewFleet)
            }
            Area::Other => false,
        }
    }

    fn command(&self, path: &str) -> String {
        let scheme = if self.site().settings.cookie_secure { "https" } else { "http" };
        let host = extract::requested_host(self.request()).unwrap_or_default();
        format!("curl -H \"Authorization: Bearer $TOKEN\" '{scheme}://{host}{path}'")
    }
}

impl Page<'_> {
    /// Names a path under `/control/v1` that has the same data.
    pub(super) fn api(mut self, path: impl Into<String>) -> Self {
        self.alternates.push(path.into());
        self
    }

    /// Says that the content changes by itself: a browser without scripts loads the page again.
    pub(super) fn changing(mut self) -> Self {
        self.changes = true;
        self
    }

    /// Renders the page.
    ///
    /// # Errors
    /// [`Error::Internal`] if a template cannot be rendered.
    pub(super) fn show(self, content: &impl Template) -> Result<HttpResponse> {
        self.show_with(StatusCode::OK, content)
    }

    /// Renders the page as the answer with this status.
    ///
    /// # Errors
    /// As [`Page::show`].
    pub(super) fn show_with(
        self,
        status: StatusCode,
        content: &impl Template,
    ) -> Result<HttpResponse> {
        let cookies = self.call.shown();
        let html = self.html(content)?;
        Ok(respond(status, html, &cookies))
    }

    /// Renders the page as text.
    ///
    /// # Errors
    /// As [`Page::show`].
    pub(super) fn html(self, content: &impl Template) -> Result<String> {
        let main = render(content)?;
        let call = self.call;
        let links = Area::LINKED.into_iter().filter(|area| call.is_linked(*area)).map(|area| {
            let (path, words) = area.link();
            Link { path, words, is_here: area == self.area }
        });
        let has_search = call.is_linked(Area::Tenants);
        let theme = call.setting(THEME);
        render(&Frame {
            theme: if ["light", "dark"].contains(&theme.as_str()) { &theme } else { "" },
            has_shortcuts: call.setting(SHORTCUTS) != "off",
            person: call.person(),
            links: links.collect(),
            flash: call.flash(),
            alternates: &self.alternates,
            commands: self.alternates.iter().map(|path| call.command(path)).collect(),
            search: has_search.then(|| call.parameter("q")),
            reload: self.changes.then_some(RELOAD),
            ..Frame::bare(&self.title, &main)
        })
    }
}

/// The name of the cookie with the colours that the reader chose.
pub(super) const THEME: &str = "rowhouse_theme";

/// The name of the cookie that turns the keyboard shortcut off.
pub(super) const SHORTCUTS: &str = "rowhouse_shortcuts";

/// Returns a part of a page, or 304 if the browser has it already.
///
/// # Errors
/// As [`Page::show`].
pub(super) fn fragment(call: &Call, content: &impl Template) -> Result<HttpResponse> {
    let html = render(content)?.trim().to_owned();
    let digest = Sha256::digest(&html);
    let tag = format!("\"{}\"", hex::encode(digest.get(..16).unwrap_or_default()));
    if call.has(&tag) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, tag)).finish());
    }
    let mut answer = respond(StatusCode::OK, html, &[]);
    if let Ok(tag) = tag.parse() {
        answer.headers_mut().insert(ETAG, tag);
    }
    Ok(answer)
}

/// Answers with HTML and the headers of a page. Under another `Referrer-Policy` a browser would send `Origin: null` for
/// our own forms.
pub(super) fn respond(
    status: StatusCode,
    html: String,
    cookies: &[Cookie<'static>],
) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "same-origin"))
        .insert_header((CROSS_ORIGIN_OPENER_POLICY, "same-origin"))
        .insert_header((CACHE_CONTROL, "no-store"));
    for cookie in cookies {
        answer.cookie(cookie.clone());
    }
    answer.body(html)
}

/// Renders a template.
///
/// # Errors
/// [`Error::Internal`].
pub(super) fn render(template: &impl Template) -> Result<String> {
    template.render().map_err(|error| Error::internal("render a page", error))
}
