//! The README and the book under `docs/`, as their tests read them: fenced blocks, links, anchors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown file of the repository.
pub struct Page {
    /// Its path from the top of the repository, such as `docs/tutorial.md`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of its fence.
    pub line: usize,
    /// What stands behind the fence, such as `sh`.
    pub language: String,
    /// The comment above it: a word, and what stands after the colon.
    pub mark: Option<(String, String)>,
    /// What it holds.
    pub text: String,
}

/// A link, with the line that it begins on.
#[derive(Debug)]
pub struct Link {
    /// The line.
    pub line: usize,
    /// Where it leads, as written.
    pub target: String,
}

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and every page of the book, in the order of their paths.
pub fn book() -> Vec<Page> {
    let mut paths = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the book can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| Page::read(path.strip_prefix(root()).expect("it is below"))).collect()
}

impl Page {
    /// Reads a page by its path from the top of the repository.
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let text = std::fs::read_to_string(root().join(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.display().to_string(), text }
    }

    /// The folder that its links start from.
    fn folder(&self) -> &Path {
        Path::new(&self.path).parent().expect("a page lies in a folder")
    }

    /// Its fenced blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut mark = None;
        let mut open: Option<Block> = None;
        for (event, range) in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let CodeBlockKind::Fenced(language) = kind else {
                        panic!("{}:{}: give the block a fence", self.path, self.line(&range));
                    };
                    let (line, language) = (self.line(&range), language.to_string());
                    open = Some(Block { line, language, mark: mark.take(), text: String::new() });
                }
                Event::Text(text) if open.is_some() => {
                    open.as_mut().expect("it was asked for").text += &text;
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                Event::Html(html) => {
                    let comment = html.trim().strip_prefix("<!-- ");
                    let comment = comment.and_then(|comment| comment.strip_suffix(" -->"));
                    let halves = comment.and_then(|comment| comment.split_once(": "));
                    mark = halves.map(|(word, rest)| (word.to_owned(), rest.to_owned()));
                }
                Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
                _ => mark = None,
            }
        }
        blocks
    }

    /// Its links and the sources of its images.
    pub fn links(&self) -> Vec<Link> {
        let target = |event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.to_string())
            }
            _ => None,
        };
        let links = self.events().filter_map(|(event, range)| Some((target(event)?, range)));
        links.map(|(target, range)| Link { line: self.line(&range), target }).collect()
    }

    /// What `#..` of a link to this page may say, by the rule that forges and mdBook share: a heading in lower
    /// case, hyphens for spaces, letters, digits, `-` and `_` kept, a number behind what was there before.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        let mut heading: Option<String> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let name = anchor(&heading.take().expect("a heading began"));
                    let before = seen.entry(name.clone()).or_default();
                    anchors.insert(match *before {
                        0 => name,
                        count => format!("{name}-{count}"),
                    });
                    *before += 1;
                }
                _ => {}
            }
        }
        anchors
    }

    /// The file that a link of this page leads to, from the top of the repository; none where it leaves the
    /// repository.
    pub fn target(&self, path: &str) -> Option<PathBuf> {
        let mut target = PathBuf::new();
        for part in self.folder().join(path).components() {
            match part {
                Component::ParentDir if target.pop() => {}
                Component::ParentDir => return None,
                Component::Normal(name) => target.push(name),
                _ => {}
            }
        }
        Some(target)
    }

    fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    fn line(&self, range: &Range<usize>) -> usize {
        self.text.as_bytes().iter().take(range.start).filter(|byte| **byte == b'\n').count() + 1
    }
}

fn anchor(heading: &str) -> String {
    let keep = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || "-_".contains(c) => Some(c),
        _ => None,
    };
    heading.trim().to_lowercase().chars().filter_map(keep).collect()
}
