//! The last quarter of an hour: how many payments, and how long they took, a point every few seconds.

use super::counted::Counted;
use std::collections::VecDeque;
use std::time::Instant;

/// Points that are kept: a quarter of an hour, one every five seconds.
const POINTS: usize = 180;
/// Points from one row of the table to the next: a minute.
const POINTS_A_ROW: usize = 12;

/// Some seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Point {
    /// When they ended, in Unix seconds.
    pub(super) at: i64,
    /// Payments in a thousand seconds.
    pub(super) rate: u64,
    /// In how many microseconds half of the answers were there; none when there were none.
    pub(super) p50: Option<u64>,
    /// The same of 99 in 100.
    pub(super) p99: Option<u64>,
}

/// All of them, oldest first.
#[derive(Clone, Default, Debug)]
pub(super) struct Trend {
    points: VecDeque<Point>,
    /// What was counted last, and when.
    last: Option<(Counted, Instant)>,
}

impl Trend {
    /// Takes in what is counted by now.
    pub(super) fn add(&mut self, counted: &Counted, at: i64, now: Instant) {
        if let Some((before, then)) = &self.last {
            let milliseconds = now.saturating_duration_since(*then).as_millis();
            let came = u128::from(counted.settled.saturating_sub(before.settled)).saturating_mul(1_000_000);
            let rate = came.checked_div(milliseconds).and_then(|rate| u64::try_from(rate).ok());
            let quantile = |permille| counted.quantile_since(before, permille);
            self.points.push_back(Point { at, rate: rate.unwrap_or_default(), p50: quantile(500), p99: quantile(990) });
            if self.points.len() > POINTS {
                self.points.pop_front();
            }
        }
        self.last = Some((counted.clone(), now));
    }

    /// The points, oldest first.
    pub(super) fn points(&self) -> Vec<Point> {
        self.points.iter().copied().collect()
    }
}

/// One point of each minute, newest first: what a table shows.
pub(super) fn by_the_minute(points: &[Point]) -> impl Iterator<Item = &Point> {
    points.iter().rev().step_by(POINTS_A_ROW)
}

/// How many points there is room for.
pub(super) const fn room() -> usize {
    POINTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn given_counts_when_they_are_taken_in_then_points_are_what_came_between_and_no_more_are_kept_than_fit() {
        let (begun, mut trend) = (Instant::now(), Trend::default());
        let counted = |settled| Counted { settled, ..Counted::default() };
        trend.add(&counted(100), 1_000, begun);
        assert!(trend.points().is_empty(), "nothing is known of before");
        trend.add(&counted(110), 1_004, begun + Duration::from_secs(4));
        assert_eq!(trend.points(), [Point { at: 1_004, rate: 2_500, p50: None, p99: None }]);
        for more in 1..400u32 {
            trend.add(&counted(110), 1_004, begun + Duration::from_secs(4) * (more + 1));
        }
        assert_eq!(trend.points().len(), POINTS);
        assert_eq!(trend.points()[0].rate, 0);
        assert_eq!(by_the_minute(&trend.points()).count(), 15);
    }
}
