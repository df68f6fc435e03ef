//! What the lists of the console share: links that filter a list, and links that lead from page to page.

use url::form_urlencoded::Serializer;

use super::call::Call;
use crate::domain::page::{Cursor, Window};
use crate::http::cursor::write_cursor;

/// A list with the filters of the request.
pub(super) struct List<'a> {
    path: &'a str,
    filters: Vec<(&'static str, String)>,
}

/// A value to filter by, as a link.
pub(super) struct Chip {
    pub(super) words: String,
    pub(super) path: String,
    pub(super) is_chosen: bool,
}

/// The links to the other pages of a list.
pub(super) struct Pages {
    pub(super) is_first: bool,
    pub(super) first: String,
    pub(super) next: Option<String>,
}

impl<'a> List<'a> {
    /// Reads the parameters with these names, which filter the list at `path`.
    pub(super) fn of(call: &Call, path: &'a str, names: &[&'static str]) -> Self {
        let filters = names.iter().map(|name| (*name, call.parameter(name))).collect();
        Self { path, filters }
    }

    /// Whether the request filters it.
    pub(super) fn is_filtered(&self) -> bool {
        self.filters.iter().any(|(_, value)| !value.is_empty())
    }

    /// Returns a link to its beginning with the same filters.
    pub(super) fn first(&self) -> String {
        link(self.path, self.filters.iter().map(|(name, value)| (*name, Some(value))))
    }

    /// Returns a link to its beginning with another value of one filter; `None` is any value.
    pub(super) fn filtered_by(&self, name: &str, value: Option<&str>) -> String {
        let others = self
            .filters
            .iter()
            .map(|(key, kept)| (*key, if *key == name { value } else { Some(kept.as_str()) }));
        link(self.path, others)
    }

    /// Returns links for any value of a filter and for each of these words.
    pub(super) fn chips(&self, name: &'static str, words: &[&str]) -> Vec<Chip> {
        let chosen = self.filters.iter().find(|(key, _)| *key == name);
        let chosen = chosen.map_or("", |(_, value)| value.as_str());
        let all = Chip {
            words: "all".to_owned(),
            path: self.filtered_by(name, None),
            is_chosen: chosen.is_empty(),
        };
        let each = words.iter().map(|word| Chip {
            words: (*word).to_owned(),
            path: self.filtered_by(name, Some(word)),
            is_chosen: chosen == *word,
        });
        std::iter::once(all).chain(each).collect()
    }

    /// Returns the links to the other pages of the one that was read.
    pub(super) fn pages(&self, window: &Window, next: Option<Cursor>) -> Pages {
        let next = next.map(|next| {
            let filters = self.filters.iter().map(|(name, value)| (*name, value.clone()));
            let parameters = filters.chain([("cursor", write_cursor(next))]);
            link(self.path, parameters.map(|(name, value)| (name, Some(value))))
        });
        Pages { is_first: window.after.is_none(), first: self.first(), next }
    }
}

/// Returns a path with the parameters that have a value.
pub(super) fn link<V: AsRef<str>>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'static str, Option<V>)>,
) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value.as_ref().map(AsRef::as_ref).filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
