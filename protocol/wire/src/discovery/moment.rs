//! Times as catalogues write them.

const DAY_SECONDS: i64 = 86_400;

/// Unix seconds as ISO 8601, `2026-09-21T14:13:20Z`: the form that x402's catalogues have. Before 1970 and after 9999 the nearest
/// second that has it.
pub fn iso_8601(unix_seconds: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = unix_seconds.clamp(0, LAST);
    let (days, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (year, month, day) = date(days);
    let [hour, minute, second] = [of_day / 3_600, of_day / 60 % 60, of_day % 60];
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970, at most the last one of 9999: counted in eras of 400 years, which begin in March.
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let leaps = (of_era / 1_460).saturating_sub(of_era / 36_524).saturating_add(of_era / 146_096);
    let year_of_era = of_era.saturating_sub(leaps) / 365;
    let begun = year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
    let of_year = of_era.saturating_sub(begun);
    let months = of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = of_year.saturating_sub(months.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let month = if months < 10 { months.saturating_add(3) } else { months.saturating_sub(9) };
    let year = era.saturating_mul(400).saturating_add(year_of_era);
    (if month <= 2 { year.saturating_add(1) } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_second_when_it_is_written_then_it_is_its_date_and_out_of_range_the_nearest_that_has_one() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_790_000_000, "2026-09-21T14:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(iso_8601(seconds), text);
        }
    }
}
