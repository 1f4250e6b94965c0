//! How figures are written: money to the base unit, times with their age, keys whole.

use chrono::DateTime;
use maud::{Markup, html};
use std::fmt::Display;
use tallybook_rules::Amount;
use tallybook_wire::decimal::grouped;
use tallybook_wire::{Key, Signature};

/// Places of a SOL.
const SOL_DECIMALS: u8 = 9;

/// An amount in whole tokens, with all places of its mint; the base units are its machine-readable value and stand in its title.
pub(super) fn tokens(amount: Amount, decimals: u8) -> Markup {
    html! { data.amount value=(amount) title=(base_units(amount)) { (places(&amount.decimal(decimals).to_string())) } }
}

/// The same in words: `1,500 base units`.
pub(super) fn base_units(amount: Amount) -> String {
    many(amount.get(), "base unit")
}

/// A number whose whole part is in groups of three, and whose last zeros say only how exact it is.
fn places(text: &str) -> Markup {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let (point, said) = (if places.is_empty() { "" } else { "." }, places.trim_end_matches('0'));
    let zeros = places.get(said.len()..).unwrap_or_default();
    html! {
        (number(whole))
        @if said.is_empty() { span.zeros { (point) (zeros) } } @else { (point) (said) span.zeros { (zeros) } }
    }
}

/// Lamports as SOL.
pub(super) fn sol(lamports: u64) -> Markup {
    let text = Amount::new(lamports).decimal(SOL_DECIMALS).to_string();
    html! { data.amount value=(lamports) title={ (number(lamports)) " lamports" } { (places(&text)) } }
}

/// A count, or the whole part of an amount.
pub(super) fn number(number: impl Display) -> String {
    grouped(number, ',')
}

/// So many of something: `1 channel`, `2 channels`.
pub(super) fn many(count: u64, one: &str) -> String {
    format!("{} {one}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A thousandth of what is counted, with one place.
pub(super) fn thousandths(count: u64) -> String {
    let tenths = count.saturating_add(50) / 100;
    format!("{}.{}", number(tenths / 10), tenths % 10)
}

/// Microseconds as milliseconds, with as many places as say something.
pub(super) fn milliseconds(microseconds: u64) -> String {
    if microseconds < 10_000 {
        format!("{}.{:02} ms", microseconds / 1_000, microseconds % 1_000 / 10)
    } else {
        format!("{} ms", number(microseconds / 1_000))
    }
}

/// An address or an id, whole; the style sheet shows its beginning where there is little room.
pub(super) fn key(key: &Key) -> Markup {
    html! { code.key title=(key) { (key) } }
}

/// A transaction, whole.
pub(super) fn transaction(signature: &Signature) -> Markup {
    html! { code.key title=(signature) { (signature) } }
}

/// How long: `5 s`, `14 min 03 s`, `2 h 05 min`, `3 d 4 h`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (0, _, _) => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time with its age, which the page's script keeps true.
pub(super) fn ago(at: i64, now: i64) -> Markup {
    html! {
        time datetime=(moment(at)) title=(moment(at)) data-age=(at) { (span(now.saturating_sub(at))) " ago" }
    }
}

/// A time ahead with what is left until then, which the page's script keeps true.
pub(super) fn left(at: i64, now: i64) -> Markup {
    let left = at.saturating_sub(now);
    html! {
        time datetime=(moment(at)) title=(moment(at)) data-left=(at) {
            @if left > 0 { (span(left)) } @else { "over" }
        }
    }
}

/// A time of day in UTC, with its date for machines.
pub(super) fn clock_time(at: i64) -> Markup {
    let text = DateTime::from_timestamp(at, 0).map(|time| time.format("%H:%M:%S").to_string());
    html! { time datetime=(moment(at)) { (text.unwrap_or_default()) } }
}

/// A time as ISO 8601 has it, in UTC.
fn moment(at: i64) -> String {
    let time = DateTime::from_timestamp(at, 0).map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    time.unwrap_or_else(|| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_amounts_when_written_then_every_base_unit_is_there() {
        let written = tokens(Amount::new(1_234_567_000_001), 6).into_string();
        assert_eq!(
            written,
            "<data class=\"amount\" value=\"1234567000001\" title=\"1,234,567,000,001 base units\">\
             1,234,567.000001<span class=\"zeros\"></span></data>"
        );
        assert!(tokens(Amount::new(8_500), 6).into_string().ends_with(">0.0085<span class=\"zeros\">00</span></data>"));
        assert!(tokens(Amount::new(2_000), 3).into_string().ends_with(">2<span class=\"zeros\">.000</span></data>"));
        assert!(tokens(Amount::new(1), 0).into_string().contains(">1<"));
        assert!(tokens(Amount::new(u64::MAX), 2).into_string().contains("184,467,440,737,095,516"));
        assert!(sol(5_000).into_string().contains(">0.000005<"));
    }

    #[test]
    fn given_spans_and_counts_when_written_then_they_are_short_and_true() {
        let spans = [-5, 59, 60, 843, 3_599, 7_500, 86_400 * 3 + 3_600 * 4].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 00 s", "14 min 03 s", "59 min 59 s", "2 h 05 min", "3 d 4 h"]);
        assert_eq!([0, 49, 50, 2_500, 1_234_567].map(thousandths), ["0.0", "0.0", "0.1", "2.5", "1,234.6"]);
        assert_eq!([250, 9_999, 10_000, 2_500_000].map(milliseconds), ["0.25 ms", "9.99 ms", "10 ms", "2,500 ms"]);
        let time = ago(1_790_000_000, 1_790_000_003).into_string();
        assert!(time.contains("datetime=\"2026-09-21T14:13:20Z\"") && time.contains(">3 s ago<"), "{time}");
        assert!(left(10, 20).into_string().contains(">over<"));
    }
}
