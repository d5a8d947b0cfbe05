//! The ONNX file format: its messages, its tensors, and tensors that lie in other files.

mod external;
pub mod schema;
mod tensor;

pub(crate) use external::read_external;
pub use external::{ExternalData, ExternalDataError, NoExternalData};
pub use tensor::{TensorError, decode_tensor, encode_tensor};
pub(crate) use tensor::{element_count, extent};

/// No model, external tensors included, may be larger than this.
pub const MODEL_BYTES_MAX: u64 = 8 << 30;
