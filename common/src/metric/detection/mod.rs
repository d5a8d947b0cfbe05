//! From a detector's raw outputs to boxes, and from boxes to match records that fold into average precision.
//!
//! Exponentials come from `libm`'s portable code: the same bits on every machine.

mod declared;
mod grid;
mod matching;
mod nms;
mod record;
mod ssd;
mod yolo;

pub use declared::{Detector, Head};
pub use grid::Grid;
pub use nms::Suppression;
pub use ssd::{BoxFormat, Ssd, Variances};
pub use yolo::{AnchorHead, Extent, Layout, YoloAnchors, YoloRows};

pub(super) use matching::{CocoRules, VocRules};
pub(super) use record::{Interpolation, MAX_THRESHOLDS, Records, encode};

/// Detections an image may keep.
pub const MAX_DETECTIONS: usize = 1 << 14;

/// One predicted object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Detection {
    /// Class index.
    pub(super) class: u32,
    /// Confidence; higher is surer. Rounded to f32, so that stored records are small.
    pub(super) score: f32,
    /// Left, upper, right and lower edge as shares of the image's width and height.
    pub(super) corners: [f64; 4],
}

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Corners of a box given by its centre and size.
fn corners_of_centre(x: f64, y: f64, width: f64, height: f64) -> [f64; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}
