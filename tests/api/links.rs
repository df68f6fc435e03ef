//! The links of everything that is written for people lead somewhere, and the book has all of its pages.

use std::collections::BTreeSet;

use crate::support::markdown::{Page, book, root};

/// What is read beside the README and the book.
const ALONE: [&str; 2] = ["CHANGELOG.md", "CONTRIBUTING.md"];

const SUMMARY: &str = "docs/SUMMARY.md";

#[test]
fn every_link_and_every_anchor_resolves() {
    let mut broken = Vec::new();
    let mut pages = book();
    pages.extend(ALONE.map(Page::read));
    for page in &pages {
        for link in page.links() {
            if let Err(why) = check(page, &link.target) {
                broken.push(format!("{}:{}: {}: {why}", page.path, link.line, link.target));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Addresses on the network are not asked: a test must not fail because another site is away.
fn check(page: &Page, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let leaves = || "it leaves the repository".to_owned();
    let file = match path {
        "" => page.path.clone().into(),
        path => page.target(path).ok_or_else(leaves)?,
    };
    // mdBook builds what lies under docs/ and nothing else.
    if page.path.starts_with("docs/") && !file.starts_with("docs") {
        return Err("it leaves the book".to_owned());
    }
    if !root().join(&file).is_file() {
        return Err(format!("there is no file {}", file.display()));
    }
    match anchor {
        Some(anchor) if !Page::read(&file).anchors().contains(anchor) => {
            Err(format!("{} has no heading for it", file.display()))
        }
        _ => Ok(()),
    }
}

#[test]
fn the_summary_names_every_page_of_the_book_once() {
    let summary = Page::read(SUMMARY);
    let named: Vec<_> = summary.links().iter().map(|link| summary.target(&link.target)).collect();
    let once: BTreeSet<_> = named.iter().flatten().map(|path| path.display().to_string()).collect();
    assert_eq!(named.len(), once.len(), "a page is named twice: {named:?}");
    let pages = book().into_iter().map(|page| page.path);
    let pages = pages.filter(|path| path.starts_with("docs/") && path != SUMMARY);
    assert_eq!(once, pages.collect::<BTreeSet<_>>());
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = Page::read("docs/security.md");
    let named: Vec<&str> = page.text.split('`').skip(1).step_by(2).collect();
    let tests = named.iter().filter_map(|code| code.rsplit_once("::"));
    let mut checked = 0;
    for (module, name) in tests {
        let file = root().join("tests/api").join(format!("{}.rs", module.replace("::", "/")));
        let source = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(source.contains(&format!("fn {name}(")), "there is no test {module}::{name}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} tests are named");
}

#[test]
fn the_readme_is_a_front_page() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= 140, "{lines} lines: what it tells belongs into docs/");
}

#[test]
fn anchors_are_those_of_forges_and_of_mdbook() {
    let text =
        "# A `code` word, and (more)\n\n## Twice\n\n## Twice\n\n## `isolation = search_path`\n";
    let page = Page { path: "docs/made-up.md".to_owned(), text: text.to_owned() };
    let anchors = ["a-code-word-and-more", "isolation--search_path", "twice", "twice-1"];
    assert_eq!(page.anchors(), anchors.map(str::to_owned).into());
}
