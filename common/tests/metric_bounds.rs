//! The best that unseen samples may contribute is a bound: no fold over it is worse than any model's own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use holdfast_common::dataset::{Annotation, ClassMap, Truth};
use holdfast_common::metric::{Metric, MetricDefinition, MetricSpec, Outputs, build};
use ndarray::{ArrayD, IxDyn};
use serde_json::{Value, json};

/// Random models and data sets a metric is tried with.
const CASES: u64 = 2_000;
/// Most samples of a data set.
const SAMPLES_MAX: u64 = 12;

/// Every metric that has bounds, with parameters.
fn declarations() -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("accuracy", json!({})),
        ("accuracy@top2", json!({})),
        ("hit_ratio", json!({ "top_k": 2 })),
        ("ndcg", json!({ "top_k": 2 })),
        ("log_loss", json!({})),
        ("mse", json!({})),
        ("rmse", json!({})),
        ("mae", json!({})),
        ("psnr", json!({ "data_range": 1.0 })),
        ("cosine_similarity", json!({})),
        ("mean_iou", json!({})),
        ("mean_iou", json!({ "ignore_label": 1 })),
    ];
    for word in ["precision", "recall", "f1"] {
        for average in ["macro", "micro", "weighted", "binary"] {
            all.push((word, json!({ "average": average })));
            all.push((word, json!({ "average": average, "threshold": 0.5 })));
        }
    }
    all
}

fn metric(word: &str, parameters: &Value) -> (MetricDefinition, Box<dyn Metric>) {
    let definition = MetricDefinition::from_parameters(word, parameters.as_object().unwrap()).unwrap();
    let spec = MetricSpec { name: word.to_owned(), output: None, definition: definition.clone() };
    let metric = build(&spec).unwrap();
    (definition, metric)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Few different values, so that there are ties.
    fn score(&mut self) -> f32 {
        self.below(9) as f32 / 8.0
    }
}

const CLASSES: u64 = 4;
/// Rows and columns of class maps.
const SIDE: usize = 3;

fn annotation(truth: Truth, random: &mut Random) -> Annotation {
    match truth {
        Truth::Label => Annotation::Label(random.below(CLASSES) as u32),
        Truth::Labels => Annotation::Labels((0..CLASSES as u32).filter(|_| random.below(3) == 0).collect()),
        Truth::Values => Annotation::Values((0..CLASSES).map(|_| random.score()).collect()),
        Truth::Mask => {
            let classes: Vec<u32> = (0..SIDE * SIDE).map(|_| random.below(CLASSES) as u32).collect();
            Annotation::Mask(ClassMap::pack(SIDE as u32, SIDE as u32, classes.into_iter()).unwrap())
        }
        other => panic!("no metric with bounds reads {other:?}"),
    }
}

/// What some model contributes for a sample.
fn contribution(metric: &dyn Metric, annotation: &Annotation, random: &mut Random) -> Vec<f64> {
    let shape = match annotation {
        Annotation::Mask(_) => vec![1, CLASSES as usize, SIDE, SIDE],
        _ => vec![1, CLASSES as usize],
    };
    // A model is right in every respect now and then.
    let values: Vec<f32> = match annotation {
        Annotation::Values(targets) if random.below(4) == 0 => targets.clone(),
        _ => (0..shape.iter().product()).map(|_| random.score()).collect(),
    };
    let values = [ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()];
    metric.contribution(&Outputs { names: &["y".to_owned()], values: &values }, annotation).unwrap()
}

fn fold(metric: &dyn Metric, contributions: &[Vec<f64>]) -> f64 {
    metric.fold(&mut contributions.iter().map(Vec::as_slice)).unwrap()
}

/// Asserts that bounds are no worse for contributions of two models to one data set: `known` told them, `judged` is bounded.
fn assert_bounded(metric: &dyn Metric, known: &[Vec<f64>], judged: &[Vec<f64>], random: &mut Random, what: &str) {
    let sign = metric.orientation().sign();
    let truth = sign * fold(metric, judged);
    let best: Vec<Vec<f64>> = known.iter().map(|known| metric.best_contribution(known).unwrap()).collect();
    // More and more samples are seen, in any order; the bound closes in on the truth.
    let mut bounded = best;
    let mut unseen: Vec<usize> = (0..judged.len()).collect();
    let mut last = f64::INFINITY;
    loop {
        let bound = sign * fold(metric, &bounded);
        assert!(bound >= truth, "{what}: {} unseen: a bound of {bound} where {truth} is true", unseen.len());
        assert!(bound <= last, "{what}: a bound that grows from {last} to {bound}");
        last = bound;
        if unseen.is_empty() {
            break;
        }
        let next = unseen.swap_remove(random.below(unseen.len() as u64) as usize);
        bounded[next].clone_from(&judged[next]);
    }
    assert_eq!(last, truth, "{what}");
}

#[test]
fn no_bound_is_worse_than_what_a_model_reaches() {
    for (word, parameters) in declarations() {
        let (definition, metric) = metric(word, &parameters);
        for seed in 0..CASES {
            let random = &mut Random(seed);
            let count = 1 + random.below(SAMPLES_MAX);
            let truths: Vec<Annotation> = (0..count).map(|_| annotation(definition.truth(), random)).collect();
            let mut model =
                || -> Vec<Vec<f64>> { truths.iter().map(|truth| contribution(&*metric, truth, random)).collect() };
            let (known, judged) = (model(), model());
            if fold(&*metric, &judged).is_nan() {
                continue;
            }
            assert_bounded(&*metric, &known, &judged, random, &format!("{word} {parameters}, seed {seed}"));
        }
    }
}

#[test]
fn error_rates_of_texts_are_bounded_by_no_edits() {
    for word in ["wer", "cer"] {
        let decoder = json!({ "type": "ctc_greedy_search_decoder", "alphabet": "_ab" });
        let (_, metric) = metric(word, &json!({ "adapter": decoder }));
        for seed in 0..CASES {
            let random = &mut Random(seed);
            let count = 1 + random.below(SAMPLES_MAX);
            let units: Vec<f64> = (0..count).map(|_| (1 + random.below(20)) as f64).collect();
            let mut model =
                || -> Vec<Vec<f64>> { units.iter().map(|units| vec![random.below(30) as f64, *units]).collect() };
            let (known, judged) = (model(), model());
            assert_bounded(&*metric, &known, &judged, random, &format!("{word}, seed {seed}"));
        }
    }
}

#[test]
fn metrics_that_compare_samples_with_one_another_have_no_bounds() {
    for word in ["mcc", "pearson_correlation_coef", "spearman_correlation_coef", "roc_auc_score"] {
        let Ok(definition) = MetricDefinition::from_parameters(word, &serde_json::Map::new()) else {
            panic!("{word} is a metric")
        };
        let metric = build(&MetricSpec { name: word.to_owned(), output: None, definition }).unwrap();
        assert_eq!(metric.best_contribution(&[0.0, 1.0]), None, "{word}");
    }
}
