//! FastestDet's head: one feature map, one object a cell, objectness and class scores already between 0 and 1.

use super::{Detection, corners_of_centre, sigmoid};
use serde::{Deserialize, Serialize};

/// Output [1, 5 + classes, height, width]; channels are objectness, x, y, width, height, then one a class.
///
/// The centre is (column + tanh x) / columns, (row + tanh y) / rows; width and height are sigmoids, shares of the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The score is objectness to this power …
    pub objectness_power: f64,
    /// … times the best class's score to this power.
    pub class_power: f64,
}

impl Grid {
    /// Objects whose score is above `threshold`, in row-major order of their cells. The error says what was expected.
    pub(super) fn decode(&self, shape: &[usize], values: &[f32], threshold: f64) -> Result<Vec<Detection>, String> {
        let &[1, channels @ 6..=usize::MAX, rows, columns] = shape else {
            return Err(format!("the output has shape {shape:?}; [1, 5 + classes, rows, columns] was expected"));
        };
        let cells = rows * columns;
        let channel = |index: usize, cell: usize| f64::from(values[index * cells + cell]);
        let mut detections = Vec::new();
        for cell in 0..cells {
            let mut best = 0;
            for class in 1..channels - 5 {
                if channel(5 + class, cell) > channel(5 + best, cell) {
                    best = class;
                }
            }
            let share = |value: f64| value.max(0.0);
            let score = libm::pow(share(channel(0, cell)), self.objectness_power)
                * libm::pow(share(channel(5 + best, cell)), self.class_power);
            if score <= threshold {
                continue;
            }
            let x = ((cell % columns) as f64 + libm::tanh(channel(1, cell))) / columns as f64;
            let y = ((cell / columns) as f64 + libm::tanh(channel(2, cell))) / rows as f64;
            let corners = corners_of_centre(x, y, sigmoid(channel(3, cell)), sigmoid(channel(4, cell)));
            detections.push(Detection { class: best as u32, score: score as f32, corners });
        }
        Ok(detections)
    }
}
