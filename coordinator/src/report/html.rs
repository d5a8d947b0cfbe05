//! `report.html`: one self-contained page, without scripts, readable in light and dark.

use super::chart::{self, Point, escape, number};
use super::{AnswerOverview, Outcome, Overview, Timings};
use std::fmt::Write;

/// Groups the ranking chart shows.
const RANKING_ROWS: usize = 25;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2430; --soft: #667085; --line: #e3e7ee; --paper: #fff; --card: #f7f9fc;
        --accent: #2f6fed; --good: #12805c; --bad: #c4320a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf2; --soft: #98a2b3; --line: #2d3646; --paper: #12161e; --card: #1a202b; --accent: #7aa5ff;
          --good: #4cc38a; --bad: #ff8b66; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 880px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 28px; margin: 0; } h2 { font-size: 18px; margin: 44px 0 12px; }
.lead { color: var(--soft); margin: 6px 0 24px; overflow-wrap: anywhere; }
.badge { display: inline-block; padding: 3px 12px; border-radius: 99px; font-weight: 600; color: var(--paper); }
.met { background: var(--good); } .missed { background: var(--bad); } .none { background: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 20px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.card span, .note { color: var(--soft); font-size: 14px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td.w { overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); } .grid { stroke: var(--line); } .bar { fill: var(--accent); }
.line { fill: none; stroke: var(--accent); stroke-width: 2; } .kept { fill: var(--accent); }
.rolled-back { fill: var(--paper); stroke: var(--bad); stroke-width: 2; }
.limit { stroke: var(--bad); stroke-dasharray: 6 4; } svg .limit-text { fill: var(--bad); }
";

/// The page; its numbers are those of `report.json` beside it.
pub fn render_html(overview: &Overview, timings: &Timings) -> String {
    let mut page = String::new();
    let name = escape(&overview.model_name);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{name} · Holdfast</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>{name}</h1>\n<p class=\"lead\">{} · model {}</p>\n",
        escape(&overview.algorithm),
        overview.model_digest,
    );
    verdict(&mut page, overview);
    metrics(&mut page, overview);
    tuning(&mut page, overview);
    rounds(&mut page, overview);
    questions(&mut page, overview);
    ranking(&mut page, overview);
    reverted(&mut page, overview);
    cost(&mut page, overview, timings);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn verdict(page: &mut String, overview: &Overview) {
    let (class, text) = match overview.outcome {
        Outcome::GoalMet => ("met", "goal met"),
        Outcome::GoalMissed => ("missed", "goal missed, best model saved"),
        Outcome::NoGoal => ("none", "no goal was set"),
    };
    let _ = writeln!(page, "<span class=\"badge {class}\">{text}</span>\n<div class=\"cards\">");
    if let Some(metric) = overview.metrics.first() {
        card(page, &number(metric.result), &format!("{} of the result", metric.name));
        let limit = metric.limit.map_or(String::new(), |limit| format!(", {} allowed", number(limit)));
        card(page, &number(metric.result_drop), &format!("drop{limit}"));
    }
    let reverted = overview.operations_reverted.len();
    let int8 = overview.operations_quantized.saturating_sub(reverted);
    card(page, &format!("{int8} of {}", overview.operations_quantized), "operations in int8");
    card(page, &reverted.to_string(), &format!("operations reverted, in {} groups", overview.groups_reverted));
    page.push_str("</div>\n");
}

fn card(page: &mut String, value: &str, label: &str) {
    let _ = writeln!(page, "<div class=\"card\"><b>{}</b><span>{}</span></div>", escape(value), escape(label));
}

fn metrics(page: &mut String, overview: &Overview) {
    page.push_str(
        "<h2>Metrics</h2>\n<div class=\"scroll\"><table>\n<tr><th>metric</th><th class=\"n\">float</th>\
         <th class=\"n\">all int8</th><th class=\"n\">drop</th><th class=\"n\">result</th><th class=\"n\">drop</th>\
         <th class=\"n\">limit</th></tr>\n",
    );
    for metric in &overview.metrics {
        let _ = write!(page, "<tr><td class=\"w\">{}</td>", escape(&metric.name));
        for value in [metric.baseline, metric.int8, metric.int8_drop, metric.result, metric.result_drop] {
            let _ = write!(page, "<td class=\"n\">{}</td>", number(value));
        }
        let _ = writeln!(page, "<td class=\"n\">{}</td></tr>", metric.limit.map_or("–".to_owned(), number));
    }
    page.push_str("</table></div>\n");
    for sentence in &overview.certainty {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escape(sentence));
    }
}

fn tuning(page: &mut String, overview: &Overview) {
    let (Some(metric), Some(tuning)) = (overview.metrics.first(), &overview.tuning) else {
        return;
    };
    let outcome = match tuning.adopted {
        true => "The best of them was better on all validation samples too, and was gone on with.",
        false => "None was better than the parameters given on all validation samples.",
    };
    let _ = writeln!(
        page,
        "<h2>Tuning</h2>\n<p class=\"note\">Quantization parameters tried on the {} samples that suffered most. {outcome}</p>\n\
         <div class=\"scroll\"><table>\n<tr><th class=\"n\">trial</th><th>change</th><th class=\"n\">{}</th>\
         <th class=\"n\">worse by</th></tr>",
        tuning.samples,
        escape(&metric.name),
    );
    for (index, trial) in tuning.trials.iter().enumerate() {
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"w\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            index + 1,
            escape(&trial.change),
            number(trial.value),
            number(trial.error),
        );
    }
    page.push_str("</table></div>\n");
}

fn rounds(page: &mut String, overview: &Overview) {
    let (Some(metric), false) = (overview.metrics.first(), overview.rounds.is_empty()) else {
        return;
    };
    let start = Point { drop: metric.int8_drop, label: "all operations in int8".to_owned(), kept: true };
    let point = |round: &super::RoundOverview| {
        let label = format!("{}: drop {}, {}", round.group, number(round.drop), round.decision);
        Point { drop: round.drop, label, kept: round.kept }
    };
    let points: Vec<Point> = std::iter::once(start).chain(overview.rounds.iter().map(point)).collect();
    let _ = writeln!(page, "<h2>Rounds</h2>\n{}", chart::drops(&points, metric.limit));
    let _ = writeln!(
        page,
        "<p class=\"note\">Drop of {} after every round; a hollow point was rolled back.</p>\n<div class=\"scroll\">\
         <table>\n<tr><th class=\"n\">round</th><th>group</th><th class=\"n\">operations</th><th class=\"n\">value</th>\
         <th class=\"n\">drop</th><th>decision</th></tr>",
        escape(&metric.name),
    );
    for (index, round) in overview.rounds.iter().enumerate() {
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"w\">{}</td><td class=\"n\" title=\"{}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td></tr>",
            index + 1,
            escape(&round.group),
            escape(&round.operations.join(", ")),
            round.operations.len(),
            number(round.value),
            number(round.drop),
            escape(&round.decision),
        );
    }
    page.push_str("</table></div>\n");
}

fn questions(page: &mut String, overview: &Overview) {
    let (Some(metric), false) = (overview.metrics.first(), overview.questions.is_empty()) else {
        return;
    };
    let _ = writeln!(
        page,
        "<h2>Questions</h2>\n<p class=\"note\">States that were asked about, hardest samples first. A failing one is \
         refuted as soon as its drop of {} is proven to be beyond the limit. One that looks hopeless on the samples \
         nearest to being judged otherwise is not asked about.</p>\n<div class=\"scroll\"><table>\n<tr>\
         <th class=\"n\">question</th><th>why</th><th class=\"n\">groups</th><th class=\"n\">operations</th>\
         <th class=\"n\">samples</th><th class=\"n\">drop</th><th>answer</th></tr>",
        escape(&metric.name),
    );
    for (index, question) in overview.questions.iter().enumerate() {
        let (drop, answer) = match question.answer {
            AnswerOverview::Passed(drop) => (number(drop), "within the limits"),
            AnswerOverview::Refuted(drop) => (format!("≥ {}", number(drop)), "beyond a limit"),
            AnswerOverview::Raced(drop) => (format!("≥ {}", number(drop)), "most probably beyond a limit"),
            AnswerOverview::SetAside(missing) => {
                (format!("about {missing:.0} samples too many"), "looked hopeless, not asked")
            }
        };
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"n\" title=\"{}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{drop}</td><td>{answer}</td></tr>",
            index + 1,
            escape(&question.purpose),
            escape(&question.groups.join(", ")),
            question.groups.len(),
            question.operations,
            question.samples,
        );
    }
    page.push_str("</table></div>\n");
}

fn ranking(page: &mut String, overview: &Overview) {
    if overview.ranking.is_empty() {
        return;
    }
    let shown = overview.ranking.len().min(RANKING_ROWS);
    let rows: Vec<(String, f64)> =
        overview.ranking.iter().take(shown).map(|group| (group.name.clone(), group.score)).collect();
    let _ = writeln!(
        page,
        "<h2>Ranking</h2>\n{}\n<p class=\"note\">The {shown} of {} groups whose reverting helps the ranking subset most.\
         </p>",
        chart::bars(&rows),
        overview.ranking.len(),
    );
}

fn reverted(page: &mut String, overview: &Overview) {
    if overview.operations_reverted.is_empty() {
        return;
    }
    page.push_str("<h2>Operations that stay float</h2>\n<ul>\n");
    for operation in &overview.operations_reverted {
        let _ = writeln!(page, "<li>{}</li>", escape(operation));
    }
    page.push_str("</ul>\n");
}

fn cost(page: &mut String, overview: &Overview, timings: &Timings) {
    let _ = writeln!(
        page,
        "<h2>Cost</h2>\n<p>The algorithm asked for {} evaluations of {} samples in all. {} were computed, {} came from the \
         memo store. Wall time {:.1} s.</p>",
        overview.evaluations, overview.samples, timings.samples_computed, timings.samples_reused, timings.wall_seconds,
    );
    page.push_str("<div class=\"scroll\"><table>\n<tr><th>stage</th><th class=\"n\">seconds</th><th class=\"n\">samples computed</th></tr>\n");
    for stage in &timings.stages {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td></tr>",
            escape(&stage.stage),
            stage.seconds,
            stage.samples_computed,
        );
    }
    page.push_str("</table></div>\n<div class=\"scroll\"><table>\n<tr><th>worker</th><th>instructions</th><th class=\"n\">threads</th><th class=\"n\">samples</th></tr>\n");
    for worker in &timings.workers {
        let _ = writeln!(
            page,
            "<tr><td class=\"w\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&worker.name),
            escape(&worker.isa),
            worker.threads,
            worker.samples,
        );
    }
    page.push_str("</table></div>\n");
}
