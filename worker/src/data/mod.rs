//! From a pack's bytes to model inputs: decoding, declared preprocessing, conversion to the model's layout and type.
//!
//! Pixels are those of the reference libraries: Pillow's for decoding and its own resizing filters, OpenCV's for its
//! bilinear one. Nothing depends on the thread, the cache or the machine.

mod array;
mod cache;
mod decode;
#[cfg(test)]
mod golden;
mod jpeg;
mod pipeline;
#[cfg(test)]
mod pipeline_tests;
mod pixels;
mod raster;
mod resize;
mod steps;

pub use cache::PixelCache;
pub use decode::{FieldValue, ImageError, MAX_PIXELS, decode_image, decode_sample};
pub use pipeline::{InputSpec, PackSource, SamplePipeline};
pub use pixels::Pixels;

/// A sample cannot become a model input.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data set and the model do not go together, whatever the sample.
    #[error("model input `{input}`: {problem}")]
    Input {
        /// The model input.
        input: String,
        /// What the data gives, what the model wants, and how to fix it.
        problem: String,
    },
    /// The model's inputs and the data set's fields cannot be paired.
    #[error("data set `{dataset}`: {problem}")]
    Fields {
        /// Name of the data set.
        dataset: String,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// An image file cannot be decoded.
    #[error("sample `{sample}` cannot be decoded; replace the file or remove it from the data set")]
    Image {
        /// Name of the sample.
        sample: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// The sample's content does not fit what is declared.
    #[error("sample `{sample}`: {problem}")]
    Sample {
        /// Name of the sample.
        sample: String,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// There is no such sample.
    #[error("sample {index} does not exist: data set `{dataset}` has {count}")]
    NoSample {
        /// Name of the data set.
        dataset: String,
        /// The position asked for.
        index: u32,
        /// Samples there are.
        count: usize,
    },
    /// A pack could not be fetched.
    #[error("fetch pack {pack} of data set `{dataset}`")]
    Pack {
        /// Name of the data set.
        dataset: String,
        /// Position of the pack.
        pack: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A pack has another length than the manifest says.
    #[error("pack {pack} of data set `{dataset}` has {found} bytes, its manifest says {expected}")]
    PackLength {
        /// Name of the data set.
        dataset: String,
        /// Position of the pack.
        pack: usize,
        /// Bytes it must have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A caller's buffer does not hold the layout it describes.
    #[error("model input `{input}`: {problem}")]
    Buffer {
        /// The model input.
        input: String,
        /// What does not fit.
        problem: String,
    },
}
