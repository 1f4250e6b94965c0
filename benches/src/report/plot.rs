//! The plots of the report, as SVG.

use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use std::path::Path;

const OURS: RGBColor = RGBColor(0x0b, 0x6e, 0x99);
const THEIRS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const FONT: &str = "sans-serif";
const WIDTH: u32 = 820;
const BAR_HEIGHT: u32 = 34;

/// One bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// What it is.
    pub(super) label: String,
    /// How long.
    pub(super) value: f64,
    /// As it is written at its end.
    pub(super) shown: String,
    /// Ours, or what it is compared with.
    pub(super) ours: bool,
}

impl Bar {
    /// One of ours.
    pub(super) fn ours(label: impl Into<String>, value: f64, shown: impl Into<String>) -> Self {
        Self { label: label.into(), value, shown: shown.into(), ours: true }
    }

    /// One of others.
    pub(super) fn theirs(label: impl Into<String>, value: f64, shown: impl Into<String>) -> Self {
        Self { ours: false, ..Self::ours(label, value, shown) }
    }
}

/// The scale of a plot's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten, from 1.
    Logarithmic,
}

/// Draws bars from top to bottom.
pub(super) fn bars(path: &Path, title: &str, unit: &str, scale: Scale, bars: &[Bar]) {
    let count = i32::try_from(bars.len()).unwrap();
    let height = 110 + BAR_HEIGHT * u32::try_from(bars.len()).unwrap();
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let most = bars.iter().map(|bar| bar.value).fold(1.0, f64::max);
    let rows = (0..count - 1).into_segmented();
    let mut builder = ChartBuilder::on(&root);
    builder.caption(title, (FONT, 19)).margin(12).x_label_area_size(44).y_label_area_size(300);
    // The first bar on top, and room at the right for what stands at a bar's end.
    macro_rules! draw {
        ($range:expr, $from:expr) => {{
            let mut chart = builder.build_cartesian_2d($range, rows).unwrap();
            let name = |at: &SegmentValue<i32>| match at {
                SegmentValue::CenterOf(at) => {
                    let bar = usize::try_from(*at).ok().and_then(|at| bars.iter().rev().nth(at));
                    bar.map_or_else(String::new, |bar| bar.label.clone())
                }
                SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
            };
            let mut mesh = chart.configure_mesh();
            mesh.disable_y_mesh().light_line_style(TRANSPARENT).bold_line_style(BLACK.mix(0.12)).x_desc(unit);
            mesh.y_labels(bars.len()).y_label_formatter(&name).label_style((FONT, 14)).x_labels(6);
            mesh.x_label_formatter(&|value: &f64| number(*value)).draw().unwrap();
            let rectangles = bars.iter().rev().zip(0..).map(|(bar, at)| {
                let colour = if bar.ours { OURS } else { THEIRS };
                let corners = [($from, SegmentValue::Exact(at)), (bar.value, SegmentValue::Exact(at + 1))];
                let mut rectangle = Rectangle::new(corners, colour.filled());
                rectangle.set_margin(6, 6, 0, 0);
                rectangle
            });
            chart.draw_series(rectangles).unwrap();
            let ends = bars.iter().rev().zip(0..).map(|(bar, at)| {
                EmptyElement::at((bar.value, SegmentValue::CenterOf(at)))
                    + Text::new(bar.shown.clone(), (6, -7), (FONT, 14).into_font())
            });
            chart.draw_series(ends).unwrap();
        }};
    }
    match scale {
        Scale::Linear => draw!(0.0..most * 1.25, 0.0),
        Scale::Logarithmic => draw!((1.0..most * 12.0).log_scale(), 1.0),
    }
    root.present().unwrap();
}

/// How calls are spread over what they took: (upper end in microseconds, share of the calls), rising.
pub(super) type Shares = Vec<(f64, f64)>;

/// Draws what unpaid and paid calls took, one over the other.
pub(super) fn latency(path: &Path, title: &str, unpaid: &Shares, paid: &Shares) {
    let root = SVGBackend::new(path, (WIDTH, 360)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let all = || unpaid.iter().chain(paid);
    let (least, most) = all().fold((f64::MAX, 1.0), |(least, most), (end, _)| (least.min(*end), f64::max(most, *end)));
    let highest = all().map(|(_, share)| *share).fold(0.0, f64::max);
    let mut builder = ChartBuilder::on(&root);
    builder.caption(title, (FONT, 19)).margin(12).x_label_area_size(44).y_label_area_size(60);
    let range = (least * 0.8..most * 1.1).log_scale();
    let mut chart = builder.build_cartesian_2d(range, 0.0..highest * 1.1).unwrap();
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(BLACK.mix(0.12)).label_style((FONT, 14));
    mesh.x_desc("microseconds a call took").x_label_formatter(&|value: &f64| number(*value));
    mesh.y_desc("share of the calls").y_label_formatter(&|share: &f64| format!("{:.0} %", share * 100.0));
    mesh.draw().unwrap();
    for (name, shares, colour) in [("unpaid", unpaid, THEIRS), ("paid", paid, OURS)] {
        let area = AreaSeries::new(shares.iter().copied(), 0.0, colour.mix(0.25)).border_style(colour.stroke_width(2));
        let series = chart.draw_series(area).unwrap();
        series.label(name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
    }
    chart.configure_series_labels().border_style(BLACK.mix(0.2)).label_font((FONT, 14)).draw().unwrap();
    root.present().unwrap();
}

/// A number as people write it: 1,234 or 0.25.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("−{grouped}") } else { grouped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_numbers_when_written_then_they_are_as_people_write_them() {
        let written = [0.0, 0.25, 5.0, 999.6, 1_000.0, 1_234_567.0, -4_321.0].map(number);
        assert_eq!(written, ["0", "0.25", "5", "1,000", "1,000", "1,234,567", "−4,321"]);
    }

    #[test]
    fn given_bars_when_drawn_then_each_is_named_and_its_value_stands_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.svg");
        let drawn = [Bar::ours("ours", 23.0, "23 a transaction"), Bar::theirs("a peer", 4.0, "4")];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            bars(&path, "claims", "claims", scale, &drawn);
            let text = std::fs::read_to_string(&path).unwrap();
            for said in ["ours", "a peer", "23 a transaction", "claims"] {
                assert!(text.contains(said), "{said} is missing");
            }
        }
    }
}
