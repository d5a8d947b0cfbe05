//! The report says what happened, the same way every time.

use super::*;
use crate::terminal::example_overview;

const GOOD: &str = include_str!("../../../tests/fixtures/mnist/mnist.json");

fn report(timings: Timings) -> Report<serde_json::Value> {
    let parameters = crate::config::parse(GOOD, "mnist.json", std::path::Path::new("/data")).expect("valid");
    let digest = Digest::of(b"model");
    let dataset = DatasetInfo { name: "digits".to_owned(), manifest: digest, samples: 3 };
    Report {
        schema: REPORT_SCHEMA,
        engine: EngineInfo::current(),
        model: ModelInfo { name: "net".to_owned(), digest },
        data: DataInfo { validation: dataset.clone(), calibration: dataset },
        parameters,
        outcome: Outcome::GoalMet,
        run: serde_json::json!({ "rounds": [] }),
        timings,
    }
}

#[test]
fn only_timings_tell_two_repetitions_apart() {
    let read = |timings| -> serde_json::Value {
        serde_json::from_slice(&report(timings).to_json().expect("plain data")).expect("JSON")
    };
    let mut first = read(Timings::default());
    let mut second = read(Timings { wall_seconds: 3.5, samples_computed: 9, ..Timings::default() });
    assert_ne!(first, second);
    assert_eq!((&first["schema"], &first["outcome"]), (&1.into(), &"goal_met".into()));
    for value in [&mut first, &mut second] {
        value.as_object_mut().expect("an object").remove("timings");
    }
    assert_eq!(first, second);
}

#[test]
fn the_page_escapes_names_and_loads_nothing() {
    let mut overview = example_overview();
    overview.model_name = "<b>&\"x\"".to_owned();
    overview.rounds[0].group = "</title><script>alert(1)</script>".to_owned();
    overview.ranking[0].name = "a<b".to_owned();
    let page = render_html(&overview, &Timings::default());
    assert!(page.contains("&lt;b&gt;&amp;&quot;x&quot;"));
    for forbidden in ["<script", "http://", "https://", "a<b", "src=", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_page_draws_every_round_and_the_limit() {
    let overview = example_overview();
    let page = render_html(&overview, &Timings::default());
    assert_eq!(page.matches("<circle").count(), overview.rounds.len() + 1);
    assert_eq!(page.matches("class=\"limit\"").count(), 1);
    assert_eq!(page.matches("class=\"rolled-back\"").count(), 1);
    assert_eq!(page.matches("<rect class=\"bar\"").count(), overview.ranking.len());
    assert!(page.contains("goal met"));
}

#[test]
fn the_page_shows_every_question_with_its_answer() {
    let mut overview = example_overview();
    let page = render_html(&overview, &Timings::default());
    assert_eq!(page.matches("<td>beyond a limit</td>").count(), 1);
    assert_eq!(page.matches("<td>within the limits</td>").count(), 1);
    assert!(page.contains("≥ 0.021") && page.contains(&overview.certainty[0]), "{page}");
    overview.questions.clear();
    assert!(!render_html(&overview, &Timings::default()).contains("<h2>Questions</h2>"));
}

#[test]
fn the_page_shows_every_trial_and_what_became_of_tuning() {
    let mut overview = example_overview();
    let page = render_html(&overview, &Timings::default());
    let trials = overview.tuning.clone().expect("an example of tuning").trials;
    assert!(trials.iter().all(|trial| page.contains(&format!("<td class=\"w\">{}</td>", trial.change))), "{page}");
    assert!(page.contains("was gone on with"));
    if let Some(tuning) = &mut overview.tuning {
        tuning.adopted = false;
        tuning.trials[0].change = "<script>".to_owned();
    }
    let page = render_html(&overview, &Timings::default());
    assert!(page.contains("None was better") && !page.contains("<script"));
    overview.tuning = None;
    assert!(!render_html(&overview, &Timings::default()).contains("<h2>Tuning</h2>"));
}

#[test]
fn numbers_that_are_none_do_not_break_the_page() {
    let mut overview = example_overview();
    for round in &mut overview.rounds {
        round.drop = f64::NAN;
    }
    for group in &mut overview.ranking {
        group.score = f64::NAN;
    }
    let page = render_html(&overview, &Timings::default());
    // Coordinates are finite; only shown values say NaN.
    assert!(!page.contains("=\"NaN\"") && !page.contains("=\"inf\""), "{page}");
    overview.metrics.clear();
    overview.rounds.clear();
    overview.ranking.clear();
    assert!(render_html(&overview, &Timings::default()).ends_with("</html>\n"));
}
