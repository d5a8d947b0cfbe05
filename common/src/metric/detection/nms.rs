//! Non-maximum suppression: of boxes of one class that overlap much, only the surest stays.

use super::Detection;
use serde::{Deserialize, Serialize};

/// What is suppressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suppression {
    /// A box goes where its intersection with a surer one, over their union, is above this.
    pub overlap: f64,
    /// Whether boxes of different classes suppress each other.
    pub is_class_agnostic: bool,
}

/// Intersection over union of two boxes given by their corners; 0 where they do not overlap.
pub(super) fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let width = a[2].min(b[2]) - a[0].max(b[0]);
    let height = a[3].min(b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |corners: &[f64; 4]| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    let intersection = width * height;
    intersection / (area(a) + area(b) - intersection)
}

impl Suppression {
    /// What stays, surest first; of equal scores the earlier one.
    pub(super) fn apply(&self, mut detections: Vec<Detection>) -> Vec<Detection> {
        sort(&mut detections);
        let mut kept: Vec<Detection> = Vec::new();
        for detection in detections {
            let rivals = kept.iter().filter(|other| self.is_class_agnostic || other.class == detection.class);
            if rivals.into_iter().all(|other| overlap(&other.corners, &detection.corners) <= self.overlap) {
                kept.push(detection);
            }
        }
        kept
    }
}

/// Surest first; of equal scores the earlier one stays ahead.
pub(super) fn sort(detections: &mut [Detection]) {
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(class: u32, score: f32, left: f64) -> Detection {
        Detection { class, score, corners: [left, 0.0, left + 1.0, 1.0] }
    }

    #[test]
    fn the_surest_of_overlapping_boxes_stays() {
        let boxes =
            vec![detection(0, 0.5, 0.0), detection(0, 0.9, 0.2), detection(1, 0.4, 0.0), detection(0, 0.3, 0.9)];
        let nms = |is_class_agnostic| Suppression { overlap: 0.5, is_class_agnostic }.apply(boxes.clone());
        assert_eq!(nms(false), [boxes[1], boxes[2], boxes[3]]);
        assert_eq!(nms(true), [boxes[1], boxes[3]]);
    }

    #[test]
    fn a_box_at_the_limit_stays() {
        // Intersection 0.5, union 1.5: exactly a third.
        let boxes = vec![detection(0, 0.9, 0.0), detection(0, 0.8, 0.5)];
        let kept = |overlap| Suppression { overlap, is_class_agnostic: false }.apply(boxes.clone()).len();
        assert_eq!((kept(1.0 / 3.0), kept(0.333)), (2, 1));
    }

    #[test]
    fn boxes_that_touch_or_are_empty_do_not_overlap() {
        assert_eq!(overlap(&[0.0, 0.0, 1.0, 1.0], &[1.0, 0.0, 2.0, 1.0]), 0.0);
        assert_eq!(overlap(&[0.5, 0.5, 0.5, 0.5], &[0.5, 0.5, 0.5, 0.5]), 0.0);
    }
}
