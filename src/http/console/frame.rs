//! What every page has around its content: header, navigation, foot.

use askama::Template;

use super::assets::{ICON, SCRIPT, STYLE};

/// The parts of the console that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// The state of everything, or the tenants of the caller.
    Overview,
    /// Tenants.
    Tenants,
    /// API tokens.
    Tokens,
    /// Archives of tenants.
    Archives,
    /// Audit events.
    Audit,
    /// Fleet migrations.
    Migrations,
    /// The stock of vacancies.
    Vacancies,
    /// Checks and capacity.
    Health,
    /// The server.
    Server,
    /// The caller's own account, and pages that are in no area.
    Other,
}

impl Area {
    /// Those with a link, in order.
    pub(super) const LINKED: [Self; 9] = [
        Self::Overview,
        Self::Tenants,
        Self::Tokens,
        Self::Archives,
        Self::Audit,
        Self::Migrations,
        Self::Vacancies,
        Self::Health,
        Self::Server,
    ];

    /// Returns the path and the words of the link.
    pub(super) const fn link(self) -> (&'static str, &'static str) {
        match self {
            Self::Overview => ("/console", "Overview"),
            Self::Tenants => ("/console/tenants", "Tenants"),
            Self::Tokens => ("/console/tokens", "Tokens"),
            Self::Archives => ("/console/archives", "Archives"),
            Self::Audit => ("/console/audit", "Audit"),
            Self::Migrations => ("/console/migrations", "Migrations"),
            Self::Vacancies => ("/console/vacancies", "Vacancies"),
            Self::Health => ("/console/health", "Health"),
            Self::Server => ("/console/server", "Server"),
            Self::Other => ("/console/account", "Account"),
        }
    }
}

/// A link of the navigation.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) words: &'static str,
    pub(super) is_here: bool,
}

/// The account in the header.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) is_root: bool,
}

/// A page.
#[derive(Template)]
#[template(path = "frame.html")]
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    /// The colours that the reader chose; empty for those of the system.
    pub(super) theme: &'a str,
    /// Whether a single key jumps to the search.
    pub(super) has_shortcuts: bool,
    /// The account; `None` where there is none.
    pub(super) person: Option<Person>,
    pub(super) links: Vec<Link>,
    /// What the page before has done.
    pub(super) flash: Option<String>,
    /// The paths under `/control/v1` with the same data.
    pub(super) alternates: &'a [String],
    /// The commands that read the same data.
    pub(super) commands: Vec<String>,
    /// Whether the header has the search for tenants, and what was searched for.
    pub(super) search: Option<String>,
    /// The seconds after which a browser without scripts loads the page again.
    pub(super) reload: Option<u64>,
    /// Whether a browser with scripts does so, too.
    pub(super) reloads_always: bool,
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
    /// The content, in HTML.
    pub(super) main: &'a str,
}

impl<'a> Frame<'a> {
    /// Creates the frame of a page without an account.
    pub(super) fn bare(title: &'a str, main: &'a str) -> Self {
        Self {
            title,
            theme: "",
            has_shortcuts: true,
            person: None,
            links: Vec::new(),
            flash: None,
            alternates: &[],
            commands: Vec::new(),
            search: None,
            reload: None,
            reloads_always: false,
            style: STYLE.path(),
            script: SCRIPT.path(),
            icon: ICON.path(),
            main,
        }
    }
}
