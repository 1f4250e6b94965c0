use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime};

/// From when to when, in Unix seconds: the first counts, the last does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// The first second.
    pub from: i64,
    /// The second after the last.
    pub to: i64,
}

impl Period {
    /// All time.
    pub const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// From one moment to another; where one is not given, from the beginning or to the end.
    pub fn new(from: Option<i64>, to: Option<i64>) -> Result<Self> {
        let period = Self { from: from.unwrap_or(i64::MIN), to: to.unwrap_or(i64::MAX) };
        ensure!(period.from < period.to, "--from must be before --to, which is the first moment that does not count");
        Ok(period)
    }

    /// Whether a moment is in it.
    pub const fn holds(self, at: i64) -> bool {
        self.from <= at && at < self.to
    }
}

/// Reads a moment: a day in UTC (its first second), a time with its offset, or Unix seconds.
pub fn moment(text: &str) -> Result<i64> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp());
    }
    let time = DateTime::parse_from_rfc3339(text);
    Ok(time
        .context("write a day such as 2026-11-01, a time such as 2026-11-01T08:00:00Z, or Unix seconds")?
        .timestamp())
}

/// A moment as spreadsheets read it: `2026-11-01T08:00:00Z`; Unix seconds where there is no such date.
pub fn rfc3339(at: i64) -> String {
    let time = DateTime::from_timestamp(at, 0);
    time.map_or_else(|| at.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_day_a_time_or_seconds_when_read_then_it_is_that_moment_and_back() {
        assert_eq!(moment("2026-11-01").unwrap(), 1_793_491_200);
        assert_eq!(moment("2026-11-01T01:00:00+01:00").unwrap(), 1_793_491_200);
        assert_eq!(moment("1793491200").unwrap(), 1_793_491_200);
        assert_eq!(rfc3339(1_793_491_200), "2026-11-01T00:00:00Z");
        assert!(moment("last month").is_err());
    }

    #[test]
    fn given_a_period_when_asked_then_its_last_moment_is_the_next_ones_first() {
        let month = Period::new(Some(10), Some(20)).unwrap();
        assert!(month.holds(10) && month.holds(19) && !month.holds(20) && !month.holds(9));
        assert!(Period::new(Some(20), Some(20)).is_err());
        assert!(Period::ALL.holds(i64::MIN));
    }
}
