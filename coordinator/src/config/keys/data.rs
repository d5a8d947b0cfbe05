//! Keys of `engine` and of accuracy-checker's evaluation files: data sets, preprocessing, metrics.

use super::{Key, Kind, Section, UNBOUNDED, common, foreign, key, required};

/// Pixels a side may have.
const SIDE_MAX: i64 = 1 << 14;

/// `engine`.
pub(in crate::config) static ENGINE: Section = Section::new(
    "engine",
    "data and metrics",
    &[
        key(
            "type",
            Kind::Choice(&["accuracy_checker", "simplified"]),
            "\"accuracy_checker\"",
            "simplified: images without labels, for DefaultQuantization only",
        ),
        key(
            "config",
            Kind::Text,
            "null",
            "An evaluation file of accuracy-checker, YAML or JSON, in place of `datasets`",
        ),
        foreign("name", Kind::Text, "Changes nothing: the model is named by model.model_name"),
        foreign(
            "launchers",
            Kind::List(&Kind::Section(&LAUNCHER)),
            "Only the adapter counts: what the model's output means",
        ),
        common(
            "datasets",
            Kind::Either(&[Kind::Section(&DATASETS), Kind::List(&Kind::Section(&DATASET))]),
            "{}",
            "The data",
        ),
        foreign("module", Kind::Any, "Refused: no code of the user's is run"),
        foreign("module_config", Kind::Any, "Refused: no code of the user's is run"),
        key("stat_requests_number", Kind::Whole(0, UNBOUNDED), "null", "Changes nothing: see eval_requests_number"),
        key(
            "eval_requests_number",
            Kind::Whole(0, UNBOUNDED),
            "null",
            "Samples that this machine computes side by side; all its cores by default, --threads replaces it",
        ),
        foreign(
            "data_source",
            Kind::Text,
            "Of a simplified engine: a folder of images, a pattern with *, or a .txt list",
        ),
        foreign(
            "layout",
            Kind::Choice(&["NCHW", "NHWC", "CHW", "HWC"]),
            "Of a simplified engine: the model's input layout",
        ),
        foreign(
            "central_fraction",
            Kind::Number,
            "Of a simplified engine: share of height and width kept, before resizing",
        ),
        foreign("device", Kind::Text, "Changes nothing: workers say themselves what they run on"),
    ],
);

/// One of `launchers`.
pub(in crate::config) static LAUNCHER: Section = Section {
    is_open: true,
    ..Section::new(
        "launcher",
        "how accuracy-checker would run the model",
        &[
            foreign("framework", Kind::Text, "Changes nothing: Holdfast runs the model itself"),
            foreign("device", Kind::Text, "Changes nothing: workers say themselves what they run on"),
            foreign("adapter", Kind::Any, "What the model's output means: classification, or left to the metric"),
        ],
    )
};

/// `datasets` as an object.
pub(in crate::config) static DATASETS: Section = Section::new(
    "datasets",
    "data for two purposes",
    &[
        required("evaluation", Kind::Section(&DATASET), "{}", "Labelled samples that decide"),
        required("optimization", Kind::Section(&DATASET), "{}", "Samples that statistics are collected on"),
        key("preprocessing", PIPELINES, "null", "For whichever of the two has none of its own"),
    ],
);

const PIPELINES: Kind =
    Kind::Either(&[Kind::List(&Kind::Tagged("type", &STEPS)), Kind::Map(&Kind::List(&Kind::Tagged("type", &STEPS)))]);

/// One data set.
pub(in crate::config) static DATASET: Section = Section::new(
    "dataset",
    "a data set",
    &[
        common("name", Kind::Text, "\"dataset\"", "Its name in reports"),
        required(
            "data_source",
            Kind::Either(&[Kind::Text, Kind::Map(&Kind::Text)]),
            "\"images\"",
            "A folder of images, an .npy or .npz array whose first axis counts samples, or one such array per input",
        ),
        common(
            "annotation",
            Kind::Text,
            "null",
            "As the metric needs: an .npy or .npz array, lines `file index` or `file text`, COCO's .json, or a folder",
        ),
        key(
            "annotation_conversion",
            Kind::Tagged("converter", &CONVERSIONS),
            "null",
            "The same in accuracy-checker's words",
        ),
        key(
            "subsample_size",
            Kind::Either(&[Kind::Whole(1, UNBOUNDED), Kind::Text]),
            "null",
            "Samples used, or a share such as \"20%\"",
        ),
        key(
            "reader",
            Kind::Either(&[Kind::Choice(&["opencv_imread", "pillow_imread", "numpy_reader"]), Kind::Section(&READER)]),
            "null",
            "Channel order of images: opencv_imread, the default, gives blue first, pillow_imread red first",
        ),
        common("preprocessing", PIPELINES, "null", "Steps from image or array to the model's input"),
        key("adapter", Kind::Any, "null", "How a detector's outputs are decoded, for metrics that know adapters"),
        key("postprocessing", Kind::List(&Kind::Any), "null", "Steps after decoding, for metrics that know them"),
        common(
            "metrics",
            Kind::List(&Kind::Section(&METRIC)),
            "[{\"type\": \"accuracy\", \"top_k\": 1}]",
            "What is measured",
        ),
        foreign("batch", Kind::Any, "Changes nothing: every sample is computed by itself"),
        foreign("dataset_meta", Kind::Any, "Changes nothing: class names do not change a metric"),
    ],
);

/// `reader` as an object.
pub(in crate::config) static READER: Section = Section::new(
    "reader",
    "who reads images",
    &[required(
        "type",
        Kind::Choice(&["opencv_imread", "pillow_imread", "numpy_reader"]),
        "\"opencv_imread\"",
        "Its name",
    )],
);

/// A metric; the keys that belong to its type are known to the metric.
pub(in crate::config) static METRIC: Section = Section {
    is_open: true,
    ..Section::new(
        "metric",
        "what is measured",
        &[
            required("type", Kind::Text, "\"accuracy\"", "Which metric"),
            key("name", Kind::Text, "null", "Its name in reports and in params.metrics; from the type by default"),
            key("output", Kind::Text, "null", "The model output it reads; the first by default"),
            foreign("presenter", Kind::Any, "Changes nothing: the report shows every metric"),
            foreign("reference", Kind::Any, "Changes nothing: the float model is the reference"),
            foreign("threshold", Kind::Any, "Changes nothing: the goal is set by maximal_drop"),
            foreign("abs_threshold", Kind::Any, "Changes nothing: the goal is set by maximal_drop"),
            foreign("rel_threshold", Kind::Any, "Changes nothing: the goal is set by maximal_drop"),
        ],
    )
};

/// `annotation_conversion`, by converter.
pub(in crate::config) static CONVERSIONS: [&Section; 5] = [
    &Section::new(
        "imagenet",
        "a text file of lines `file index`",
        &[
            required("annotation_file", Kind::Text, "\"labels.txt\"", "The file"),
            key("has_background", Kind::Boolean, "false", "true is refused: shift the indices in the file"),
            LABELS_FILE,
            META_FILE,
            foreign("images_dir", Kind::Any, "Changes nothing: files are relative to data_source"),
        ],
    ),
    &Section::new(
        "mscoco_detection",
        "boxes of a COCO instances file",
        &[
            required("annotation_file", Kind::Text, "\"instances.json\"", "The file"),
            key("has_background", Kind::Boolean, "false", "The model's class 0 is the background"),
            key("use_full_label_map", Kind::Boolean, "false", "The model counts classes as COCO's 90 categories"),
            foreign("sort_annotations", Kind::Any, "Changes nothing: images are taken in the order of their names"),
            LABELS_FILE,
            META_FILE,
            foreign("images_dir", Kind::Any, "Changes nothing: images lie in data_source"),
        ],
    ),
    &Section::new(
        "yolo_labeling",
        "a text file of boxes an image",
        &[
            key("annotation_directory", Kind::Text, "null", "Their folder; `labels` for `images` in the images' path"),
            LABELS_FILE,
            META_FILE,
            foreign("images_dir", Kind::Any, "Changes nothing: images lie in data_source"),
        ],
    ),
    &Section::new(
        "common_semantic_segmentation",
        "a PNG class map an image",
        &[
            required("masks_dir", Kind::Text, "\"masks\"", "Their folder; each has the stem of its image"),
            LABELS_FILE,
            META_FILE,
            foreign("images_dir", Kind::Any, "Changes nothing: images lie in data_source"),
        ],
    ),
    &Section::new(
        "character_recognition",
        "a text file of lines `file text`",
        &[required("annotation_file", Kind::Text, "\"texts.txt\"", "The file"), LABELS_FILE, META_FILE],
    ),
];

const LABELS_FILE: Key = foreign("labels_file", Kind::Any, "Changes nothing: class names do not change a metric");
const META_FILE: Key = foreign("dataset_meta_file", Kind::Any, "Changes nothing: class names do not change a metric");

/// Steps of preprocessing, by type.
pub(in crate::config) static STEPS: [&Section; 8] = [
    &Section::new(
        "resize",
        "resizes an image",
        &[
            key("size", Kind::Whole(1, SIDE_MAX), "224", "Height and width, or the shorter side"),
            key("dst_height", Kind::Whole(1, SIDE_MAX), "null", "Height, in place of size"),
            key("dst_width", Kind::Whole(1, SIDE_MAX), "null", "Width, in place of size"),
            key("aspect_ratio_scale", Kind::Text, "null", "greater: the shorter side becomes `size` long"),
            key("interpolation", Kind::Text, "\"LINEAR\"", "OpenCV's LINEAR, or Pillow's BILINEAR and BICUBIC"),
            key("use_pillow", Kind::Boolean, "false", "Pillow's pixels instead of OpenCV's"),
            key("resize_realization", Kind::Choice(&["pillow", "opencv"]), "null", "The same in newer words"),
            key("use_tensorflow", Kind::Boolean, "false", "true is refused"),
        ],
    ),
    &Section::new(
        "crop",
        "cuts the middle of an image",
        &[
            key("size", Kind::Whole(1, SIDE_MAX), "224", "Height and width"),
            key("dst_height", Kind::Whole(1, SIDE_MAX), "null", "Height, in place of size"),
            key("dst_width", Kind::Whole(1, SIDE_MAX), "null", "Width, in place of size"),
            key("use_pillow", Kind::Boolean, "false", "Changes nothing: the pixels are the same"),
            foreign("central_fraction", Kind::Any, "Refused: give pixels"),
        ],
    ),
    &Section::new("bgr_to_rgb", "turns the order of channels round", &[]),
    &Section::new("rgb_to_bgr", "turns the order of channels round", &[]),
    &Section::new("bgr_to_gray", "makes one channel, rounded as Pillow does", &[]),
    &Section::new("rgb_to_gray", "makes one channel, rounded as Pillow does", &[]),
    &Section::new("grayscale", "makes one channel (Pillow's L)", &[]),
    &Section::new(
        "normalization",
        "subtracts mean, divides by std",
        &[
            key(
                "scale",
                Kind::Number,
                "1",
                "Divides first; 255 brings pixels to the range 0 to 1 (Holdfast's own key)",
            ),
            key("mean", CHANNELS, "null", "One value or one per channel, or the name imagenet or cifar10"),
            key("std", CHANNELS, "null", "One value or one per channel"),
            key("images_only", Kind::Boolean, "false", "true is refused: give every input its own steps"),
        ],
    ),
];

const CHANNELS: Kind = Kind::Either(&[Kind::Number, Kind::List(&Kind::Number), Kind::Text]);

/// An evaluation file of accuracy-checker.
pub(in crate::config) static EVALUATION: Section = Section::new(
    "evaluation",
    "an evaluation file of accuracy-checker",
    &[
        required("models", Kind::List(&Kind::Section(&EVALUATED_MODEL)), "[{}]", "One model"),
        foreign("evaluations", Kind::Any, "Refused: no code of the user's is run"),
    ],
);

/// One of `models` in an evaluation file.
pub(in crate::config) static EVALUATED_MODEL: Section = Section::new(
    "model",
    "how a model is evaluated",
    &[
        foreign("name", Kind::Text, "Changes nothing: the model is named by model.model_name"),
        foreign(
            "launchers",
            Kind::List(&Kind::Section(&LAUNCHER)),
            "Only the adapter counts: what the model's output means",
        ),
        required(
            "datasets",
            Kind::Either(&[Kind::Section(&DATASETS), Kind::List(&Kind::Section(&DATASET))]),
            "[{}]",
            "The data",
        ),
    ],
);
