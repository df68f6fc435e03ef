//! The trace that a request belongs to, as its client names it.

/// The value of a `traceparent` header (W3C Trace Context, level 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    parent: u64,
    is_sampled: bool,
}

impl TraceParent {
    /// Reads a header; `None` if it names no trace. A version that is not known yet is read as far as it is like the first
    /// one, as the standard says.
    #[must_use]
    pub fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, parent) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        let is_known = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        let parent = u64::try_from(parent).ok()?;
        (is_known && trace != 0 && parent != 0).then_some(Self {
            trace,
            parent,
            is_sampled: flags & 1 == 1,
        })
    }

    /// Returns the id of the trace, as the header writes it.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns whether the client records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Returns the ids of the trace and of the client's own span.
    #[must_use]
    pub const fn ids(&self) -> (u128, u64) {
        (self.trace, self.parent)
    }

    /// Returns the id of the client's own span, as the header writes it.
    #[must_use]
    pub fn parent_id(&self) -> String {
        format!("{:016x}", self.parent)
    }
}

/// Reads lower-case hexadecimal digits, exactly so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = text.len() == digits && text.bytes().all(is_lower);
    fits.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_names_a_trace_is_read_and_every_other_one_is_ignored() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for (header, is_read) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("00-{trace}-{parent}-00"), true),
            (format!("cc-{trace}-{parent}-01-what-comes-later"), true),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{trace}-{parent}"), false),
            (format!("00-{trace}-{parent}-1"), false),
            (String::new(), false),
            ("00-ä-b-01".to_owned(), false),
        ] {
            let read = TraceParent::read(&header);
            let ids = read.map(|read| (read.trace_id(), read.parent_id()));
            let expected = is_read.then(|| (trace.to_owned(), parent.to_owned()));
            assert_eq!(ids, expected, "{header:?}");
        }
    }
}
