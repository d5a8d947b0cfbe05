//! From a recognizer's raw outputs to text, and the distance between texts.

mod ctc;
mod distance;

pub use ctc::CtcDecoder;
pub(super) use distance::edit_distance;
