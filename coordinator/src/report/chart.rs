//! Charts as inline SVG: a line of drops against the limit, and bars of scores.

use std::fmt::Write;

/// A chart's size in its own units; the page scales it.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// Room for labels.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 34.0;

/// Text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// One point of [`drops`].
pub(super) struct Point {
    /// Drop.
    pub drop: f64,
    /// Shown when the pointer rests on it.
    pub label: String,
    /// Whether the step was kept.
    pub kept: bool,
}

/// Drops over rounds with the limit as a dashed line; point 0 is the fully quantized model.
pub(super) fn drops(points: &[Point], limit: Option<f64>) -> String {
    let values = points.iter().map(|point| point.drop).chain(limit).chain([0.0]).filter(|value| value.is_finite());
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let span = if high > low { high - low } else { 1.0 };
    let (low, high) = (if low < 0.0 { low - span * 0.05 } else { 0.0 }, high + span * 0.08);
    let steps = points.len().saturating_sub(1).max(1) as f64;
    let x = |index: usize| LEFT + (WIDTH - LEFT - RIGHT) * index as f64 / steps;
    let y = |value: f64| {
        // What is no number is drawn as the worst.
        let value = if value.is_nan() { high } else { value.clamp(low, high) };
        TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    };

    let mut svg = open("Drop after every round");
    for tick in 0..=4 {
        let value = low + (high - low) * f64::from(tick) / 4.0;
        let at = y(value);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            number(value),
        );
    }
    if let Some(limit) = limit {
        let at = y(limit);
        let _ = write!(
            svg,
            r#"<line class="limit" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="limit-text" x="{:.1}" y="{:.1}">limit {}</text>"#,
            WIDTH - RIGHT,
            WIDTH - RIGHT + 8.0,
            at + 4.0,
            number(limit),
        );
    }
    let path: Vec<String> =
        points.iter().enumerate().map(|(index, point)| format!("{:.1},{:.1}", x(index), y(point.drop))).collect();
    let _ = write!(svg, r#"<polyline class="line" points="{}"/>"#, path.join(" "));
    let every = points.len().div_ceil(12).max(1);
    for (index, point) in points.iter().enumerate() {
        let class = if point.kept { "kept" } else { "rolled-back" };
        let (at, down) = (x(index), y(point.drop));
        let label = escape(&point.label);
        let _ =
            write!(svg, r#"<circle class="{class}" cx="{at:.1}" cy="{down:.1}" r="4"><title>{label}</title></circle>"#);
        if index % every == 0 {
            let name = if index == 0 { "int8".to_owned() } else { index.to_string() };
            let under = HEIGHT - BOTTOM + 20.0;
            let _ = write!(svg, r#"<text class="tick" x="{at:.1}" y="{under:.1}" text-anchor="middle">{name}</text>"#);
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One bar a name, longest first as given; scores are compared with the smallest one shown.
pub(super) fn bars(rows: &[(String, f64)]) -> String {
    const ROW: f64 = 22.0;
    const NAMES: f64 = 300.0;
    let finite = || rows.iter().map(|(_, score)| *score).filter(|score| score.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), score| (l.min(score), h.max(score)));
    let span = (high - low).max(f64::MIN_POSITIVE);
    let height = ROW * rows.len() as f64 + 8.0;
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Ranking scores">"#);
    for (index, (name, score)) in rows.iter().enumerate() {
        let top = ROW * index as f64 + 4.0;
        let share = if score.is_finite() { (score - low) / span } else { 0.0 };
        let length = 2.0 + (WIDTH - NAMES - RIGHT) * share;
        let base = top + 14.0;
        let (full, short) = (escape(name), escape(&shorten(name, 44)));
        let _ = write!(
            svg,
            r#"<text class="name" x="{:.1}" y="{base:.1}" text-anchor="end"><title>{full}</title>{short}</text><rect class="bar" x="{NAMES}" y="{top:.1}" width="{length:.1}" height="16" rx="3"/><text class="tick" x="{:.1}" y="{base:.1}">{}</text>"#,
            NAMES - 8.0,
            NAMES + length + 8.0,
            number(*score),
        );
    }
    svg.push_str("</svg>");
    svg
}

fn open(label: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">"#)
}

/// The end of a name says more than its beginning.
fn shorten(name: &str, longest: usize) -> String {
    let length = name.chars().count();
    if length <= longest {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(length + 1 - longest).collect::<String>())
}

/// Up to six decimals, without trailing zeros.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
