//! Keys of `compression`: algorithms with POT's parameters.

use super::{Key, Kind, Section, UNBOUNDED, common, foreign, key, required};

/// `compression`.
pub(in crate::config) static COMPRESSION: Section = Section::new(
    "compression",
    "what is to be done",
    &[
        common("target_device", Kind::Choice(&DEVICES), "\"ANY\"", "Whose rules for quantization are followed"),
        key(
            "model_type",
            Kind::Choice(&["None", "transformer"]),
            "\"None\"",
            "transformer: the arithmetic of attention models stays float",
        ),
        key(
            "dump_intermediate_model",
            Kind::Boolean,
            "false",
            "Also write the quantized model without bias correction",
        ),
        key("inplace_statistics", Kind::Boolean, "true", "Changes nothing: whole tensors never leave the workers"),
        foreign("inplace_statistic", Kind::Boolean, "A misspelling that POT's own example contains; changes nothing"),
        required("algorithms", Kind::List(&Kind::Section(&ALGORITHM)), "[{}]", "One algorithm"),
    ],
);

const DEVICES: [&str; 8] = ["ANY", "CPU", "CPU_SPR", "GPU", "VPU", "GNA", "GNA3", "GNA3.5"];

/// One of `algorithms`.
pub(in crate::config) static ALGORITHM: Section = Section::new(
    "algorithm",
    "an algorithm and its parameters",
    &[
        required(
            "name",
            Kind::Choice(&["AccuracyAwareQuantization", "DefaultQuantization"]),
            "\"AccuracyAwareQuantization\"",
            "DefaultQuantization quantizes everything; AccuracyAwareQuantization reverts what costs too much",
        ),
        required("params", Kind::Section(&ACCURACY_AWARE), "{}", "Its parameters"),
    ],
);

/// Parameters of AccuracyAwareQuantization, those of DefaultQuantization included.
pub(in crate::config) static ACCURACY_AWARE: Section = Section {
    base: Some(&DEFAULT_QUANTIZATION),
    ..Section::new(
        "AccuracyAwareQuantization",
        "the goal and the search for it",
        &[
            common("maximal_drop", Kind::Number, "0.01", "Largest drop of every metric; negative asks for a gain"),
            common(
                "drop_type",
                Kind::Choice(&["absolute", "relative"]),
                "\"absolute\"",
                "In the metric's unit, or as a share of the float model's value",
            ),
            common(
                "metrics",
                Kind::List(&Kind::Section(&METRIC_CHOICE)),
                "null",
                "Metrics that must hold; all of the evaluation data set by default",
            ),
            common("ranking_subset_size", Kind::Whole(1, UNBOUNDED), "300", "Samples that operations are ranked on"),
            common("max_iter_num", Kind::Whole(0, UNBOUNDED), "null", "Rounds at most, rolled-back ones included"),
            key(
                "use_prev_if_drop_increase",
                Kind::Boolean,
                "true",
                "Roll back a round that makes the drop larger (strategy greedy)",
            ),
            key(
                "base_algorithm",
                Kind::Choice(&["DefaultQuantization"]),
                "\"DefaultQuantization\"",
                "What the run begins with",
            ),
            key(
                "convert_to_mixed_preset",
                Kind::Boolean,
                "false",
                "Try asymmetric activations before anything is reverted",
            ),
            key(
                "metric_subset_ratio",
                Kind::Number,
                "0.5",
                "Share of the validation samples compared where baselines are given; above 0, 1 means all",
            ),
            key("tune_hyperparams", Kind::Boolean, "false", "Search for better range estimators before reverting"),
            key(
                "annotation_free",
                Kind::Boolean,
                "false",
                "Labels are the float model's predictions: no annotation is needed, the baseline of accuracy is 1",
            ),
            key(
                "annotation_conf_threshold",
                Kind::Number,
                "0.6",
                "Of annotation_free: samples predicted with less confidence are left out",
            ),
        ],
    )
};

/// One of `metrics`.
pub(in crate::config) static METRIC_CHOICE: Section = Section::new(
    "metrics",
    "a metric that must hold",
    &[
        required("name", Kind::Text, "\"accuracy@top1\"", "Name of a metric of the evaluation data set"),
        key("type", Kind::Text, "null", "Its type, repeated"),
        key("baseline_value", Kind::Number, "null", "The float model's value; measured unless all metrics have one"),
    ],
);

/// Parameters of DefaultQuantization.
pub(in crate::config) static DEFAULT_QUANTIZATION: Section = Section::new(
    "DefaultQuantization",
    "how a model is quantized",
    &[
        common(
            "preset",
            Kind::Choice(&["performance", "mixed", "symmetric", "asymmetric", "accuracy"]),
            "\"performance\"",
            "performance: symmetric; mixed: asymmetric activations; the other words mean one of these",
        ),
        common("stat_subset_size", Kind::Whole(1, UNBOUNDED), "null", "Calibration samples; all there are by default"),
        key("shuffle_data", Kind::Boolean, "false", "Draw calibration samples at random instead of taking the first"),
        key("seed", Kind::Whole(0, UNBOUNDED), "0", "Seed of every draw"),
        key("stat_batch_size", Kind::Whole(1, UNBOUNDED), "1", "Changes nothing: every sample is a batch of its own"),
        common("ignored", Kind::Section(&IGNORED), "{}", "Operations that stay float"),
        key("weights", Kind::Section(&WEIGHTS), "{}", "How weights are quantized"),
        key("activations", Kind::Section(&ACTIVATIONS), "{}", "How activations are quantized"),
        key(
            "range_estimator",
            Kind::Section(&ACTIVATION_ESTIMATOR),
            "{}",
            "For whichever of weights and activations has no range_estimator of its own",
        ),
        key(
            "use_fast_bias",
            Kind::Boolean,
            "true",
            "false: correct biases from the model's own inputs, layer by layer",
        ),
        key("apply_for_all_nodes", Kind::Boolean, "false", "Also correct operations whose weights are float"),
        key(
            "threshold",
            Kind::Number,
            "null",
            "Skip bias corrections that are not below it; 2, or 1000 for the slow ones",
        ),
        key(
            "saturation_fix",
            Kind::Choice(&["no", "first_layer", "all"]),
            "null",
            "Halve weights for runtimes that saturate; no by default, in compat mode first_layer",
        ),
        key("use_layerwise_tuning", Kind::Boolean, "false", "Tune weights layer by layer against the float model"),
        key("num_samples_for_tuning", Kind::Whole(1, UNBOUNDED), "5000", "Samples shown while tuning"),
        key("batch_size", Kind::Whole(1, UNBOUNDED), "25", "Samples a tuning step"),
        key("weight_decay", Kind::Number, "0", "Weight decay while tuning"),
        key("calibration_indices_pool", Kind::Whole(1, UNBOUNDED), "300", "Samples that tuning draws from"),
        key("optimizer", Kind::Choice(&["Adam", "SGD"]), "\"Adam\"", "Adam is there"),
        key("loss", Kind::Choice(&["l2"]), "\"l2\"", "Of the layer's output"),
        key("use_ranking_subset", Kind::Boolean, "false", "Tuning takes calibration samples; true is refused"),
        key("calculate_grads_on_loss_increase_only", Kind::Boolean, "false", "true is refused"),
        foreign("random_seed", Kind::Any, "Changes nothing, as in POT: seed is read"),
        foreign("tuning_iterations", Kind::Any, "Changes nothing, as in POT"),
    ],
);

/// `ignored`.
pub(in crate::config) static IGNORED: Section = Section::new(
    "ignored",
    "operations that stay float",
    &[
        key("skip_model", Kind::Boolean, "false", "The whole model stays float"),
        common("scope", Kind::List(&Kind::Text), "[]", "Operations by name"),
        common(
            "operations",
            Kind::List(&Kind::Section(&IGNORED_OPERATION)),
            "[]",
            "Operations by type: [{\"type\": \"Add\"}]",
        ),
    ],
);

/// One of `ignored.operations`.
pub(in crate::config) static IGNORED_OPERATION: Section = Section::new(
    "operations",
    "operations of one type",
    &[
        required("type", Kind::Text, "\"Add\"", "An operator's type, in ONNX's or OpenVINO's words"),
        key("attributes", Kind::Map(&Kind::Any), "{}", "ONNX attributes that must all have these values"),
    ],
);

const GRANULARITIES: [&str; 2] = ["pertensor", "perchannel"];
const STATISTICS: [&str; 5] = ["min", "max", "abs_max", "quantile", "abs_quantile"];

const BITS: Key = key("bits", Kind::Whole(2, 8), "8", "Bits of a code; 8 of them are stored");
const MODE: Key =
    key("mode", Kind::Choice(&["symmetric", "asymmetric"]), "null", "Whether zero has a fixed code; by preset");
const LEVEL_LOW: Key = key("level_low", Kind::Whole(-128, 0), "null", "Smallest code");
const LEVEL_HIGH: Key = key("level_high", Kind::Whole(1, 255), "null", "Largest code");

/// `weights`.
pub(in crate::config) static WEIGHTS: Section = Section::new(
    "weights",
    "how weights are quantized",
    &[
        BITS,
        MODE,
        key(
            "granularity",
            Kind::Choice(&GRANULARITIES),
            "null",
            "One scale, or one per channel; per channel by default",
        ),
        LEVEL_LOW,
        LEVEL_HIGH,
        key("range_estimator", Kind::Section(&WEIGHT_ESTIMATOR), "{}", "What range codes cover"),
    ],
);

/// `activations`.
pub(in crate::config) static ACTIVATIONS: Section = Section::new(
    "activations",
    "how activations are quantized",
    &[
        BITS,
        MODE,
        key(
            "granularity",
            Kind::Choice(&GRANULARITIES),
            "null",
            "One scale; perchannel is refused, as no kernel reads such codes",
        ),
        LEVEL_LOW,
        LEVEL_HIGH,
        key("range_estimator", Kind::Section(&ACTIVATION_ESTIMATOR), "{}", "What range codes cover"),
    ],
);

const ESTIMATOR_PRESET: Key =
    key("preset", Kind::Choice(&["default", "quantile"]), "\"default\"", "Extremes, or quantiles at 1e-4");

/// `weights.range_estimator`.
pub(in crate::config) static WEIGHT_ESTIMATOR: Section = Section::new(
    "range_estimator",
    "what range the codes of weights cover",
    &[
        ESTIMATOR_PRESET,
        key("min", Kind::Section(&WEIGHT_END), "{}", "The lower end"),
        key("max", Kind::Section(&WEIGHT_END), "{}", "The upper end"),
    ],
);

/// `range_estimator` of activations, or of both.
pub(in crate::config) static ACTIVATION_ESTIMATOR: Section = Section::new(
    "range_estimator",
    "what range the codes of activations cover",
    &[
        ESTIMATOR_PRESET,
        key("min", Kind::Section(&ACTIVATION_END), "{}", "The lower end"),
        key("max", Kind::Section(&ACTIVATION_END), "{}", "The upper end"),
    ],
);

const STATISTIC: Key = key("type", Kind::Choice(&STATISTICS), "null", "Statistic of a sample; the preset's by default");
const OUTLIERS: Key = key("outlier_prob", Kind::Number, "null", "Share of values that quantiles leave out");
const CLIPPING: Key = key("clipping_value", Kind::Number, "null", "The end lies no further out than this");
const STATISTIC_GRANULARITY: Key =
    key("granularity", Kind::Choice(&GRANULARITIES), "null", "Of the statistic; the quantizer's by default");

/// One end of the range of weights, which are one sample.
pub(in crate::config) static WEIGHT_END: Section =
    Section::new("end", "one end of a range", &[STATISTIC, OUTLIERS, CLIPPING, STATISTIC_GRANULARITY]);

/// One end of the range of activations.
pub(in crate::config) static ACTIVATION_END: Section = Section::new(
    "end",
    "one end of a range",
    &[
        STATISTIC,
        OUTLIERS,
        CLIPPING,
        STATISTIC_GRANULARITY,
        key(
            "aggregator",
            Kind::Choice(&["mean", "max", "min", "median", "mean_no_outliers", "median_no_outliers", "hl_estimator"]),
            "null",
            "How samples make one value; the preset's by default",
        ),
    ],
);
