//! Every key a configuration may have, in one table: the reader, the template and the JSON Schema all go by it.
//!
//! A key's sentence here is its documentation. Its kind says what a value looks like; what the value means, and whether
//! it fits the other keys, is the reader's part.

mod data;
mod holdfast;
mod params;

pub(super) use data::{
    CONVERSIONS, DATASET, DATASETS, ENGINE, EVALUATED_MODEL, EVALUATION, LAUNCHER, METRIC, READER, STEPS,
};
pub(super) use holdfast::{BUDGET, HOLDFAST, LATENCY, SELECTION};
pub(super) use params::{
    ACCURACY_AWARE, ACTIVATION_END, ACTIVATION_ESTIMATOR, ACTIVATIONS, ALGORITHM, COMPRESSION, DEFAULT_QUANTIZATION,
    IGNORED, IGNORED_OPERATION, METRIC_CHOICE, WEIGHT_END, WEIGHT_ESTIMATOR, WEIGHTS,
};

/// Keys that stand together in one object.
pub(super) struct Section {
    /// Its name in messages and in the schema.
    pub(super) name: &'static str,
    /// What it is about, in a sentence.
    pub(super) about: &'static str,
    /// Its keys, in the order of the template.
    pub(super) keys: &'static [Key],
    /// A section whose keys are legal here as well.
    pub(super) base: Option<&'static Section>,
    /// Whether other keys are passed on to whoever knows them.
    pub(super) is_open: bool,
}

impl Section {
    const fn new(name: &'static str, about: &'static str, keys: &'static [Key]) -> Section {
        Section { name, about, keys, base: None, is_open: false }
    }

    /// All keys that are legal here.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().chain(self.base.map_or([].as_slice(), |base| base.keys))
    }
}

/// One key.
pub(super) struct Key {
    /// The key.
    pub(super) name: &'static str,
    /// What its value looks like.
    pub(super) kind: Kind,
    /// Its default, or an example where `role` says so, as JSON; `null` where the key is simply absent.
    pub(super) default: &'static str,
    /// What `default` is, and who needs to know the key.
    pub(super) role: Role,
    /// What it does, in a sentence without a final stop.
    pub(super) about: &'static str,
}

/// How a key appears in templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Must be given; its default is an example.
    Required,
    /// Worth knowing, shown in the short template.
    Common,
    /// Shown in the full template only.
    Rare,
    /// Recognised, but not carried out here: changes nothing, or is refused.
    Foreign,
}

/// What a value looks like.
pub(super) enum Kind {
    /// Anything; passed on, or not looked at.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A finite number.
    Number,
    /// A whole number between two bounds.
    Whole(i64, i64),
    /// A string.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An object with these keys.
    Section(&'static Section),
    /// An object whose keys are names of the user's.
    Map(&'static Kind),
    /// A list.
    List(&'static Kind),
    /// An object whose keys depend on the word under the first key, which is the name of one of these sections.
    Tagged(&'static str, &'static [&'static Section]),
    /// One of several.
    Either(&'static [Kind]),
}

/// No upper bound.
pub(super) const UNBOUNDED: i64 = i64::MAX;

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, role: Role::Rare, about }
}

const fn common(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, role: Role::Common, about }
}

const fn required(name: &'static str, kind: Kind, example: &'static str, about: &'static str) -> Key {
    Key { name, kind, default: example, role: Role::Required, about }
}

const fn foreign(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, default: "null", role: Role::Foreign, about }
}

/// The whole file.
pub(super) static ROOT: Section = Section::new(
    "configuration",
    "a run of Holdfast, in the format of OpenVINO's Post-training Optimization Tool",
    &[
        required("model", Kind::Section(&MODEL), "{}", "The float model"),
        required("engine", Kind::Section(&ENGINE), "{}", "Data and metrics, in accuracy-checker's words"),
        required("compression", Kind::Section(&COMPRESSION), "{}", "What is to be done"),
        common("holdfast", Kind::Section(&HOLDFAST), "{}", "What POT does not know"),
    ],
);

/// `model`.
pub(super) static MODEL: Section = Section::new(
    "model",
    "the float model",
    &[
        common("model_name", Kind::Text, "null", "Name of the written files; the stem of the model's path by default"),
        required("model", Kind::Text, "\"model.onnx\"", "The float ONNX model; relative to this file"),
        foreign("weights", Kind::Any, "Changes nothing: an ONNX model carries its weights, or names their files"),
        foreign("cascade", Kind::Any, "Refused: quantize the models of a cascade one by one"),
    ],
);
