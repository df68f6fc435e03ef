//! Owns how long lists are cut into pages: by the place of the last row, never by a count of rows, so that
//! rows which come or go meanwhile shift nothing.

use time::OffsetDateTime;
use uuid::Uuid;

/// The place of a row in a list that is in order of time, the id breaking ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The row's time.
    pub at: OffsetDateTime,
    /// The row's id.
    pub id: Uuid,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Behind which row it begins; at the start where there is none.
    pub after: Option<Cursor>,
    /// How many rows at most.
    pub limit: u16,
}

impl Window {
    /// How many rows to read: one more than wanted tells whether there are more.
    #[must_use]
    pub fn rows_to_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Where the next part begins; none where this is the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of rows that were read through `window`.
    pub fn cut(mut rows: Vec<T>, window: &Window, place: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::from(window.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(place) } else { None };
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_one_only_where_rows_are_left() {
        let place = |n: &u128| Cursor { at: OffsetDateTime::UNIX_EPOCH, id: Uuid::from_u128(*n) };
        let window = Window { after: None, limit: 2 };
        assert_eq!(window.rows_to_read(), 3);
        let page = Page::cut(vec![1, 2, 3], &window, place);
        assert_eq!(
            (page.rows.as_slice(), page.next.map(|c| c.id.as_u128())),
            (&[1, 2][..], Some(2))
        );
        assert!(Page::cut(vec![1, 2], &window, place).next.is_none());
        assert!(Page::cut(Vec::new(), &window, place).next.is_none());
    }
}
