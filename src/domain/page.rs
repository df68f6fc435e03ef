//! Owns keyset pagination: a page begins after the last row of the one before, not at an offset, so that rows which are
//! added or deleted meanwhile shift nothing.

use time::OffsetDateTime;
use uuid::Uuid;

/// The position of a row in a list that is ordered by time, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The row's time.
    pub at: OffsetDateTime,
    /// The row's id.
    pub id: Uuid,
}

/// The requested part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The row after which it begins; `None` for the start of the list.
    pub after: Option<Cursor>,
    /// The largest number of rows.
    pub limit: u16,
}

impl Window {
    /// Returns the time and the id of the row after which it begins; of neither for the start of the list.
    #[must_use]
    pub fn position(&self) -> (Option<OffsetDateTime>, Option<Uuid>) {
        (self.after.map(|cursor| cursor.at), self.after.map(|cursor| cursor.id))
    }

    /// Returns the number of rows to read: one more than requested shows whether there are more.
    #[must_use]
    pub fn rows_to_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The position at which the next part begins; `None` if this is the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Creates a page from the rows that were read for `window`.
    pub fn cut(mut rows: Vec<T>, window: &Window, position: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::from(window.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(position) } else { None };
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_one_only_if_rows_are_left() {
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
