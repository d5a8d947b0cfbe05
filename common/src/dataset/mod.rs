//! Data sets as coordinator and workers both see them: the manifest, annotations, declared preprocessing.

mod annotation;
mod manifest;

pub use annotation::{
    Annotation, BoxList, ClassMap, MAX_BOXES, MAX_LIST_LENGTH, MAX_MASK_PIXELS, MAX_MASK_RUNS, TrueBox, Truth,
};
pub use manifest::{MAX_FIELD_BYTES, MAX_FIELDS, MAX_PACK_BYTES, ManifestError};

use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// Consecutive samples that are fetched together as one artifact.
pub const PACK_SAMPLES: usize = 64;

/// Element types of stored arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementType {
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
}

impl ElementType {
    /// The name, as in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::U8 => "u8",
            ElementType::I8 => "i8",
            ElementType::I32 => "i32",
            ElementType::I64 => "i64",
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
        }
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            ElementType::U8 | ElementType::I8 => 1,
            ElementType::I32 | ElementType::F32 => 4,
            ElementType::I64 | ElementType::F64 => 8,
        }
    }
}

/// How the bytes of one field of a sample are to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "encoding")]
pub enum FieldEncoding {
    /// An encoded image file (JPEG, PNG, BMP), decoded to RGB rows of 8-bit pixels.
    Image,
    /// A little-endian row-major array of this type and shape (one row of a stored array, without its first axis).
    Array {
        /// Element type.
        element: ElementType,
        /// Shape of one sample.
        shape: Vec<usize>,
    },
}

/// One field of every sample: most data sets have one; a text model has token ids and a mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name, that of the model input it feeds.
    pub name: String,
    /// How its bytes are read.
    pub encoding: FieldEncoding,
}

/// One sample: where its bytes lie in its pack, and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleEntry {
    /// Its name: a relative file path, or `file.npy[index]`.
    pub name: String,
    /// Byte lengths of its fields, in manifest order; a sample's fields stand one after another in its pack.
    pub field_bytes: Vec<u64>,
    /// What is known about it.
    pub annotation: Annotation,
}

/// [`PACK_SAMPLES`] consecutive samples, concatenated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Digest of the concatenated bytes.
    pub digest: Digest,
    /// Their length.
    pub bytes: u64,
}

/// The content of a data set, in the order samples are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name for people.
    pub name: String,
    /// Fields every sample has.
    pub fields: Vec<Field>,
    /// Class names, where known; empty otherwise.
    pub classes: Vec<String>,
    /// All samples.
    pub samples: Vec<SampleEntry>,
    /// Packs: sample i lies in pack i / [`PACK_SAMPLES`].
    pub packs: Vec<Pack>,
}

/// How one stored field becomes one model input; steps apply in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The steps.
    pub steps: Vec<PreprocessingStep>,
}

/// Preprocessing steps (accuracy-checker's words where it has them). Images are height × width × channel until the end;
/// the conversion to the model's layout and type is implied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum PreprocessingStep {
    /// Resize to an exact size.
    Resize {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Filter and the library whose pixels it reproduces.
        filter: ResizeFilter,
    },
    /// Resize so that the shorter side has this length, keeping the aspect ratio (torchvision's `Resize(n)`).
    ResizeShortest {
        /// Length in pixels.
        size: usize,
        /// Filter.
        filter: ResizeFilter,
    },
    /// Central crop to an exact size.
    CenterCrop {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// Central crop to a share of height and width, each rounded down, the odd pixel left at the bottom and on the right
    /// (POT's `central_fraction`).
    CentralFraction {
        /// The share, above 0, at most 1.
        share: f64,
    },
    /// RGB to BGR or back.
    ReverseChannels,
    /// RGB to one channel (Pillow's `L`).
    Grayscale,
    /// (x − mean) / std per channel (or one value for all), in f32: first `x / scale`, then minus mean, then over std.
    Normalization {
        /// Divisor applied first; 1 leaves values alone, 255 gives the unit range.
        scale: f32,
        /// Means.
        mean: Vec<f32>,
        /// Standard deviations, not zero.
        std: Vec<f32>,
    },
}

impl PreprocessingStep {
    /// Whether places, as shares of height and width, stay where they are: the image may be stretched, not cut.
    pub fn keeps_places(&self) -> bool {
        match self {
            PreprocessingStep::CenterCrop { .. } => false,
            PreprocessingStep::CentralFraction { share } => *share == 1.0,
            PreprocessingStep::Resize { .. }
            | PreprocessingStep::ResizeShortest { .. }
            | PreprocessingStep::ReverseChannels
            | PreprocessingStep::Grayscale
            | PreprocessingStep::Normalization { .. } => true,
        }
    }
}

/// Resampling filters, each with the library it agrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Pillow's antialiased bilinear.
    PillowBilinear,
    /// Pillow's antialiased bicubic.
    PillowBicubic,
    /// OpenCV's `INTER_LINEAR`.
    OpencvLinear,
}
