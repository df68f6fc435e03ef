//! How many roles are made ahead for set-ups that find no vacancy.

use time::{Duration, OffsetDateTime};

use super::plan::SPARE_ROLES_MAX;

/// How long roles are made ahead after a set-up has found no vacancy.
const OUTRUN_FOR: Duration = Duration::minutes(1);

/// The least number of roles that are made ahead.
const SPARE_ROLES_LEAST: usize = 16;

/// What is known of set-ups that found no vacancy.
#[derive(Default)]
pub(super) struct Outrun {
    /// The value of the counter when it was last looked at.
    missed: u64,
    /// When a set-up was last found that had found no vacancy.
    at: Option<OffsetDateTime>,
    /// The number of roles that are kept for others.
    spare_roles: usize,
}

impl Outrun {
    /// Notes how many set-ups have found none so far; returns how many roles are kept for others.
    pub(super) fn note(&mut self, missed: u64, now: OffsetDateTime) -> usize {
        let more = usize::try_from(missed.saturating_sub(self.missed)).unwrap_or(usize::MAX);
        self.missed = missed;
        if more > 0 {
            self.at = Some(now);
            let roles = self.spare_roles.saturating_add(more.saturating_mul(2));
            self.spare_roles = roles.clamp(SPARE_ROLES_LEAST, SPARE_ROLES_MAX);
        } else if self.at.is_none_or(|at| at + OUTRUN_FOR < now) {
            self.spare_roles = 0;
        }
        self.spare_roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_set_ups_find_no_vacancy_the_more_roles_are_kept_until_all_find_one_for_a_minute() {
        let (mut outrun, begin) = (Outrun::default(), OffsetDateTime::UNIX_EPOCH);
        let mut note = |missed, seconds| outrun.note(missed, begin + Duration::seconds(seconds));
        assert_eq!([note(0, 0), note(1, 1), note(1, 2)], [0, 16, 16]);
        assert_eq!([note(11, 3), note(100, 4), note(100, 60)], [36, 128, 128]);
        assert_eq!([note(100, 65), note(102, 66)], [0, 16]);
    }
}
