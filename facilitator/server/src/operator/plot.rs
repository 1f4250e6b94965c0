//! Pictures, drawn here as SVG, each with its numbers in a table for who does not see it.

use super::figures::{clock_time, milliseconds, thousandths};
use super::trend::{Point, by_the_minute, room};
use maud::{Markup, PreEscaped, html};
use std::fmt::Write;
use tallybook_ledger::PageMoney;
use tallybook_rules::Amount;

/// The picture's own units.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 150;

/// One line of a plot.
struct Line<'a> {
    class: &'static str,
    name: &'static str,
    value: &'a dyn Fn(&Point) -> Option<u64>,
}

/// How many payments there were in a second.
pub(super) fn payments(points: &[Point]) -> Markup {
    let rate = |point: &Point| Some(point.rate);
    let lines = [Line { class: "one", name: "A second", value: &rate }];
    plot("payments", "Payments", "answers of /settle in a second", points, &lines, &thousandths)
}

/// How long the answers to payments took.
pub(super) fn latency(points: &[Point]) -> Markup {
    let (p50, p99) = (|point: &Point| point.p50, |point: &Point| point.p99);
    let lines = [
        Line { class: "one", name: "Half of them", value: &p50 },
        Line { class: "two", name: "99 in 100", value: &p99 },
    ];
    plot("latency", "Latency", "until the answer of /verify or /settle", points, &lines, &milliseconds)
}

fn plot(
    id: &str,
    title: &str,
    meaning: &str,
    points: &[Point],
    lines: &[Line<'_>],
    written: &dyn Fn(u64) -> String,
) -> Markup {
    let values = points.iter().flat_map(|point| lines.iter().filter_map(|line| (line.value)(point)));
    let top = rounded_up(values.max().unwrap_or_default());
    let newest = |line: &Line<'_>| points.iter().rev().find_map(|point| (line.value)(point));
    html! {
        section.plot id=(id) data-piece aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) small { (meaning) } }
            dl.legend {
                @for line in lines {
                    div {
                        dt { span.key-of.(line.class) aria-hidden="true" {} (line.name) }
                        dd { @if let Some(value) = newest(line) { (written(value)) } @else { "none yet" } }
                    }
                }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" aria-hidden="true" {
                @for at in [0, HEIGHT / 2, HEIGHT] {
                    line.grid x1="0" x2=(WIDTH) y1=(at) y2=(at) {}
                }
                @for line in lines {
                    @let (path, dots) = paths(points, line.value, top);
                    path.(line.class) d=(path) {}
                    path.dots.(line.class) d=(dots) {}
                }
            }
            div.scale aria-hidden="true" { span { "15 min ago" } span { "top: " (written(top)) } span { "now" } }
            (as_table(title, points, lines, written))
        }
    }
}

fn as_table(title: &str, points: &[Point], lines: &[Line<'_>], written: &dyn Fn(u64) -> String) -> Markup {
    html! {
        details {
            summary { "As a table" }
            table {
                caption.unseen { (title) ", by the minute, newest first" }
                thead { tr { th scope="col" { "UTC" } @for line in lines { th.number scope="col" { (line.name) } } } }
                tbody {
                    @for point in by_the_minute(points) {
                        tr {
                            td { (clock_time(point.at)) }
                            @for line in lines {
                                td.number { @if let Some(value) = (line.value)(point) { (written(value)) } @else { "none" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The line through the points that have a value, which begins anew after those that have none; and the points that stand alone.
fn paths(points: &[Point], value: &dyn Fn(&Point) -> Option<u64>, top: u64) -> (String, String) {
    let room = u64::try_from(room()).unwrap_or(u64::MAX);
    let missing = room.saturating_sub(u64::try_from(points.len()).unwrap_or(u64::MAX));
    let (mut path, mut dots) = (String::new(), String::new());
    let has_value = |at: Option<usize>| at.and_then(|at| value(points.get(at)?)).is_some();
    for ((x, at), point) in (missing..).zip(0usize..).zip(points) {
        let Some(value) = value(point) else { continue };
        let x = scaled(x.saturating_add(1), room, WIDTH);
        let y = HEIGHT.saturating_sub(scaled(value, top, HEIGHT));
        // A string takes whatever is written to it.
        let _ = match (has_value(at.checked_sub(1)), has_value(at.checked_add(1))) {
            (true, _) => write!(path, "L{x} {y}"),
            (false, true) => write!(path, "M{x} {y}"),
            (false, false) => write!(dots, "M{x} {y}h0"),
        };
    }
    (path, dots)
}

/// `part` of `whole`, as a part of `length`, rounded down.
fn scaled(part: u64, whole: u64, length: u64) -> u64 {
    let scaled = u128::from(part).saturating_mul(length.into()).checked_div(whole.into()).unwrap_or_default();
    u64::try_from(scaled).unwrap_or(length).min(length)
}

/// The next of 1, 2, 5, 10, 20, 50, …
fn rounded_up(value: u64) -> u64 {
    let mut step = 1u64;
    loop {
        for times in [1, 2, 5] {
            let top = step.saturating_mul(times);
            if top >= value {
                return top;
            }
        }
        step = step.saturating_mul(10);
    }
}

/// What a token's deposits are: settled, on its way, waiting, and free.
pub(super) fn shares(money: &PageMoney) -> Markup {
    let waiting = money.unclaimed.less(money.in_flight);
    let free = money.deposited.less(money.settled).less(money.unclaimed);
    let parts = [
        ("settled", "settled", money.settled),
        ("in-flight", "in flight", money.in_flight),
        ("waiting", "unclaimed", waiting),
        ("free", "still the payers’", free),
    ];
    let whole = money.deposited.get().max(1);
    let (mut from, mut bars) = (0u64, Vec::new());
    for (class, name, amount) in parts {
        // Something is seen however little it is.
        let least = u64::from(amount > Amount::ZERO).saturating_mul(3);
        let width = scaled(amount.get(), whole, 1_000).max(least);
        bars.push((class, name, from, width));
        from = from.saturating_add(width);
    }
    html! {
        svg.shares viewBox={ "0 0 " (from.max(1)) " 12" } preserveAspectRatio="none" aria-hidden="true" {
            @for (class, _, from, width) in &bars { rect.(*class) x=(from) y="0" width=(width) height="12" {} }
        }
        ul.shares-key aria-hidden="true" {
            @for (class, name, _, _) in &bars { li { span.key-of.(*class) {} (name) } }
        }
    }
}

/// The mark of the page, as a file.
pub(super) const MARK: PreEscaped<&str> = PreEscaped(
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\"><style>path{stroke:#1c1b19}\
     @media(prefers-color-scheme:dark){path{stroke:#efece6}}</style>\
     <path d=\"M5 4v16M10 4v16M15 4v16M20 4v16M2 17 22 7\" fill=\"none\" stroke-width=\"2\" stroke-linecap=\"round\"/></svg>",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_when_a_top_is_chosen_then_it_is_the_next_round_one() {
        let tops = [0, 1, 2, 3, 7, 11, 499, u64::MAX].map(rounded_up);
        assert_eq!(tops, [1, 1, 2, 5, 10, 20, 500, u64::MAX]);
    }

    #[test]
    fn given_points_with_a_gap_when_drawn_then_the_line_has_it_too() {
        let point = |p50| Point { at: 0, rate: 0, p50, p99: None };
        let points = [point(Some(0)), point(None), point(Some(10)), point(Some(5))];
        let drawn = paths(&points, &|point| point.p50, 10);
        assert_eq!(drawn, ("M716 0L720 75".to_owned(), "M708 150h0".to_owned()));
    }
}
