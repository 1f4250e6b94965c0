//! What the process has counted since its start, read back from the text that monitors get: page and monitors show the same.

use std::collections::BTreeMap;
use tallybook_rules::Amount;

/// Routes whose answers are paid calls, begun or ended.
const PAYMENTS: [&str; 2] = ["/verify", "/settle"];

/// Counts at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Counted {
    /// Requests to end a call, a deposit or a refund that were answered.
    pub(super) settled: u64,
    /// How many answers to payments took so many microseconds or less.
    pub(super) within: BTreeMap<u64, u64>,
    /// How many there were in all.
    pub(super) answers: u64,
    /// Payments that were refused, by the name of the reason.
    pub(super) rejections: BTreeMap<String, u64>,
}

impl Counted {
    /// Reads the text of `GET /metrics`.
    pub(super) fn read(text: &str) -> Self {
        let mut counted = Self::default();
        for (name, labels, count) in text.lines().filter_map(series) {
            match name {
                "tallybook_rejections_total" => {
                    if let Some(reason) = label(labels, "reason") {
                        counted.rejections.insert(reason.to_owned(), count);
                    }
                }
                "tallybook_request_seconds_bucket" if is_payment(labels) => {
                    let bound = label(labels, "le").and_then(microseconds);
                    let Some(within) = bound.map(|bound| counted.within.entry(bound).or_default()) else { continue };
                    *within = within.saturating_add(count);
                }
                "tallybook_request_seconds_count" if is_payment(labels) => {
                    counted.answers = counted.answers.saturating_add(count);
                    if label(labels, "route") == Some("/settle") {
                        counted.settled = counted.settled.saturating_add(count);
                    }
                }
                _ => {}
            }
        }
        counted
    }

    /// How long it took to answer so many of a thousand of the payments that were answered since `before`, in microseconds: as
    /// `histogram_quantile` of Prometheus estimates it. None when none were.
    pub(super) fn quantile_since(&self, before: &Self, permille: u64) -> Option<u64> {
        let answers = self.answers.checked_sub(before.answers).filter(|answers| *answers > 0)?;
        let rank = answers.checked_mul(permille)?;
        let (mut from, mut below) = (0u64, 0u64);
        for (bound, within) in &self.within {
            let since = within.saturating_sub(before.within.get(bound).copied().unwrap_or_default());
            if since.saturating_mul(1_000) >= rank {
                let inside = since.saturating_sub(below).saturating_mul(1_000);
                let part = rank.saturating_sub(below.saturating_mul(1_000));
                let width = u128::from(bound.saturating_sub(from));
                let more = width.saturating_mul(part.into()).checked_div(inside.into()).unwrap_or(width);
                return Some(from.saturating_add(u64::try_from(more).unwrap_or_default()));
            }
            (from, below) = (*bound, since);
        }
        // Beyond the last bound: it is the least that is known.
        Some(from)
    }
}

fn is_payment(labels: &str) -> bool {
    label(labels, "route").is_some_and(|route| PAYMENTS.contains(&route))
}

/// Name, labels and count of a line; none of a comment or of what is no count.
fn series(line: &str) -> Option<(&str, &str, u64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels, value.parse().ok()?))
}

/// The value of a label; our own values have no quotes in them.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs.find(|(label, _)| *label == name).map(|(_, value)| value.trim_end_matches('"'))
}

/// A bound in seconds; none of the one without end.
fn microseconds(bound: &str) -> Option<u64> {
    Some(Amount::parse_decimal(bound, 6).ok()?.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP tallybook_rejections_total Payments that were refused, by the name of the reason.\n\
        # TYPE tallybook_rejections_total counter\n\
        tallybook_rejections_total{reason=\"voucher_used\"} 3\n\
        tallybook_rejections_total{reason=\"channel_busy\"} 12\n\
        \n\
        tallybook_request_seconds_bucket{route=\"/verify\",le=\"0.00025\"} 10\n\
        tallybook_request_seconds_bucket{route=\"/verify\",le=\"0.001\"} 30\n\
        tallybook_request_seconds_bucket{route=\"/verify\",le=\"+Inf\"} 40\n\
        tallybook_request_seconds_sum{route=\"/verify\"} 0.25\n\
        tallybook_request_seconds_count{route=\"/verify\"} 40\n\
        tallybook_request_seconds_bucket{route=\"/settle\",le=\"0.00025\"} 0\n\
        tallybook_request_seconds_bucket{route=\"/settle\",le=\"0.001\"} 60\n\
        tallybook_request_seconds_count{route=\"/settle\"} 60\n\
        tallybook_request_seconds_count{route=\"/health\"} 7\n\
        tallybook_paused 1\n";

    #[test]
    fn given_the_text_of_monitors_when_read_then_payments_are_added_up_and_others_left_out() {
        let counted = Counted::read(TEXT);
        assert_eq!((counted.settled, counted.answers), (60, 100));
        assert_eq!(counted.within, BTreeMap::from([(250, 10), (1_000, 90)]));
        let rejections: Vec<_> = counted.rejections.into_iter().collect();
        assert_eq!(rejections, [("channel_busy".to_owned(), 12), ("voucher_used".to_owned(), 3)]);
    }

    #[test]
    fn given_counts_when_a_quantile_is_asked_then_it_is_of_what_came_since_and_as_prometheus_estimates_it() {
        let (none, all) = (Counted::default(), Counted::read(TEXT));
        // Half of 100 is the 40th of the 80 between 0.25 and 1 ms.
        assert_eq!(all.quantile_since(&none, 500), Some(250 + 375));
        assert_eq!(all.quantile_since(&none, 50), Some(125));
        assert_eq!(all.quantile_since(&none, 990), Some(1_000), "beyond the last bound");
        assert_eq!(all.quantile_since(&all, 500), None);
        let before = Counted { answers: 90, within: BTreeMap::from([(250, 0), (1_000, 90)]), ..Counted::default() };
        assert_eq!(all.quantile_since(&before, 500), Some(125), "all ten that came were quick");
    }
}
