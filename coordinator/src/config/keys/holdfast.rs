//! Keys of the `holdfast` section: what POT does not know.

use super::{Kind, Section, UNBOUNDED, common, key, required};

/// `holdfast`.
pub(in crate::config) static HOLDFAST: Section = Section::new(
    "holdfast",
    "what POT does not know",
    &[
        common(
            "mode",
            Kind::Choice(&["default", "compat"]),
            "\"default\"",
            "compat takes POT's decisions, its known flaws included",
        ),
        common(
            "strategy",
            Kind::Choice(&["bisect", "greedy"]),
            "\"bisect\"",
            "bisect: halve the ranking until few reversions suffice; greedy: POT's one group after the other",
        ),
        key("bisect_arity", Kind::Whole(2, 16), "2", "Parts that bisection cuts its range into, probed side by side"),
        key("readmission", Kind::Boolean, "true", "Quantize reverted groups again where the limits hold without them"),
        key("hardest_first", Kind::Boolean, "true", "Reject hopeless candidates on the hardest samples"),
        key(
            "racing",
            Kind::Number,
            "null",
            "Error level, between 0 and 1, at which undecided probes stop early; off by default",
        ),
        key(
            "rank_by",
            Kind::Choice(&["metric", "distance"]),
            "\"metric\"",
            "What orders groups: the metric, or the distance of outputs to the float model's",
        ),
        key("cost_aware", Kind::Boolean, "false", "Weigh what a reversion gains against the latency it costs"),
        key(
            "latencies",
            Kind::Either(&[Kind::Map(&Kind::Section(&LATENCY)), Kind::Text]),
            "{}",
            "Microseconds by operation name, or a JSON file of them; others count by their multiplications",
        ),
        common(
            "hold_out",
            Kind::Number,
            "null",
            "Share of the samples the search never sees and the result is confirmed on",
        ),
        key("confidence", Kind::Number, "0.95", "Confidence level of intervals in the report"),
        key("keep_quantized", SELECTION_OR_NAMES, "{}", "Operations or groups that are never reverted"),
        key("keep_float", SELECTION_OR_NAMES, "{}", "Operations or groups that are reverted from the start"),
        key(
            "ranking",
            Kind::Either(&[Kind::List(&Kind::Text), Kind::Text]),
            "null",
            "An order of groups that replaces the first ranking, or a JSON file of it (a report.json will do)",
        ),
        key("ahead", Kind::Whole(0, 1024), "0", "Evaluations that idle workers may compute ahead"),
        key("budget", Kind::Section(&BUDGET), "{}", "Where the search stops, goal met or not"),
        key(
            "channel_alignment",
            Kind::Boolean,
            "null",
            "Align activation channels before quantization; on in compat mode",
        ),
        key(
            "smooth_quant_alpha",
            Kind::Number,
            "null",
            "SmoothQuant's alpha for matrix products; negative is off, 0.95 for transformers",
        ),
    ],
);

const SELECTION_OR_NAMES: Kind = Kind::Either(&[Kind::Section(&SELECTION), Kind::List(&Kind::Text)]);

/// `latencies.<operation>`.
pub(in crate::config) static LATENCY: Section = Section::new(
    "latency",
    "microseconds of one operation",
    &[required("int8", Kind::Number, "1", "On codes"), required("float", Kind::Number, "2", "In float")],
);

/// `keep_quantized` and `keep_float`.
pub(in crate::config) static SELECTION: Section = Section::new(
    "selection",
    "operations or groups",
    &[
        key("names", Kind::List(&Kind::Text), "[]", "By name"),
        key("types", Kind::List(&Kind::Text), "[]", "By ONNX operator type"),
        key("patterns", Kind::List(&Kind::Text), "[]", "By name, where * stands for any characters"),
    ],
);

/// `budget`.
pub(in crate::config) static BUDGET: Section = Section::new(
    "budget",
    "where the search stops, goal met or not",
    &[
        key("seconds", Kind::Number, "null", "Wall time from the start of the run; not the same on every machine"),
        key("evaluations", Kind::Whole(1, UNBOUNDED), "null", "Evaluations on the whole validation set"),
        key("reverted_operations", Kind::Whole(0, UNBOUNDED), "null", "Operations reverted"),
    ],
);
