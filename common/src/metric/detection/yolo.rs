//! YOLO heads: decoded rows (v5 to v8, as usually exported) and raw feature maps with anchors (v2 to v7).

use super::{Detection, corners_of_centre, sigmoid};
use serde::{Deserialize, Serialize};

/// Where candidates and their numbers lie in an output of decoded rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// [1, candidates, 5 + classes]: x, y, width, height, objectness, classes (YOLOv5, v7).
    Rows,
    /// [1, 4 + classes, candidates]: x, y, width, height, classes (YOLOv8 and later).
    Columns,
}

/// A height and a width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Height.
    pub height: u32,
    /// Width.
    pub width: u32,
}

/// Boxes in pixels of the model input, by centre and size, scores between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct YoloRows {
    /// Where the numbers lie.
    pub layout: Layout,
    /// Size of the model input.
    pub input: Extent,
    /// Whether a candidate gives a detection for every class above the threshold, or for its best one only.
    pub is_multi_label: bool,
}

impl YoloRows {
    /// The error says what was expected.
    pub(super) fn decode(&self, shape: &[usize], values: &[f32], threshold: f64) -> Result<Vec<Detection>, String> {
        let (candidates, numbers, header) = match (self.layout, shape) {
            (Layout::Rows, &[1, candidates, numbers @ 6..=usize::MAX]) => (candidates, numbers, 5),
            (Layout::Columns, &[1, numbers @ 5..=usize::MAX, candidates]) => (candidates, numbers, 4),
            (Layout::Rows, _) => {
                return Err(format!("the output has shape {shape:?}; [1, candidates, 5 + classes] was expected"));
            }
            (Layout::Columns, _) => {
                return Err(format!("the output has shape {shape:?}; [1, 4 + classes, candidates] was expected"));
            }
        };
        let number = |candidate: usize, index: usize| {
            f64::from(match self.layout {
                Layout::Rows => values[candidate * numbers + index],
                Layout::Columns => values[index * candidates + candidate],
            })
        };
        let (width, height) = (f64::from(self.input.width), f64::from(self.input.height));
        let mut detections = Vec::new();
        for candidate in 0..candidates {
            let of = |index| number(candidate, index);
            let corners = corners_of_centre(of(0) / width, of(1) / height, of(2) / width, of(3) / height);
            let objectness = if header == 5 { of(4) } else { 1.0 };
            let score = |class: usize| objectness * of(header + class);
            add(&mut detections, corners, numbers - header, self.is_multi_label, threshold, score);
        }
        Ok(detections)
    }
}

/// Adds a candidate's detections: its best class (the first of equals), or all above the threshold.
fn add(
    detections: &mut Vec<Detection>,
    corners: [f64; 4],
    classes: usize,
    is_multi_label: bool,
    threshold: f64,
    score: impl Fn(usize) -> f64,
) {
    let mut push = |class: usize, score: f64| {
        if score > threshold {
            detections.push(Detection { class: class as u32, score: score as f32, corners });
        }
    };
    if is_multi_label {
        (0..classes).for_each(|class| push(class, score(class)));
        return;
    }
    let mut best = (0, score(0));
    for class in 1..classes {
        let found = score(class);
        if found > best.1 {
            best = (class, found);
        }
    }
    push(best.0, best.1);
}

/// How a raw width or height becomes a multiple of its anchor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorHead {
    /// exp t, centre in its cell (YOLOv2, v3, v4).
    Exponential,
    /// (2 sigmoid t)², centre up to half a cell outside (YOLOv5, v7).
    Squared,
}

/// Raw feature maps [1, anchors × (5 + classes), rows, columns], one per entry of `masks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct YoloAnchors {
    /// Widths and heights of all anchors, in pixels of the model input.
    pub anchors: Vec<[f64; 2]>,
    /// Which anchors each feature map uses, in order.
    pub masks: Vec<Vec<usize>>,
    /// Size of the model input.
    pub input: Extent,
    /// What the numbers mean.
    pub head: AnchorHead,
    /// Whether objectness, classes and centres are logits, as they usually are.
    pub is_raw: bool,
    /// Whether a candidate gives a detection for every class above the threshold, or for its best one only.
    pub is_multi_label: bool,
}

impl YoloAnchors {
    /// Checks what the file did not say where it was declared.
    pub(super) fn validate(&self) -> Result<(), String> {
        let unknown = self.masks.iter().flatten().find(|&&anchor| anchor >= self.anchors.len());
        match unknown {
            Some(anchor) => Err(format!("anchor {anchor} is named, but there are {}", self.anchors.len())),
            None if self.masks.is_empty() || self.masks.iter().any(Vec::is_empty) => {
                Err("a feature map has no anchors".to_owned())
            }
            None => Ok(()),
        }
    }

    /// One feature map's detections. The error says what was expected.
    pub(super) fn decode(
        &self,
        map: usize,
        shape: &[usize],
        values: &[f32],
        threshold: f64,
    ) -> Result<Vec<Detection>, String> {
        let mask = self.masks.get(map).map_or(&[][..], Vec::as_slice);
        let expected = || {
            let anchors = mask.len();
            format!("an output has shape {shape:?}; [1, {anchors} × (5 + classes), rows, columns] was expected")
        };
        let &[1, channels, rows, columns] = shape else { return Err(expected()) };
        let numbers = channels / mask.len().max(1);
        if mask.is_empty() || numbers < 6 || numbers * mask.len() != channels {
            return Err(expected());
        }
        let cells = rows * columns;
        let squash = |value: f64| if self.is_raw { sigmoid(value) } else { value };
        let (width, height) = (f64::from(self.input.width), f64::from(self.input.height));
        let mut detections = Vec::new();
        for (position, &anchor) in mask.iter().enumerate() {
            let Some([anchor_width, anchor_height]) = self.anchors.get(anchor) else { return Err(expected()) };
            for cell in 0..cells {
                let of = |index: usize| f64::from(values[(position * numbers + index) * cells + cell]);
                let objectness = squash(of(4));
                if objectness <= threshold {
                    continue;
                }
                let offset = |index: usize| match self.head {
                    AnchorHead::Exponential => squash(of(index)),
                    AnchorHead::Squared => 2.0 * squash(of(index)) - 0.5,
                };
                let factor = |index: usize| match self.head {
                    AnchorHead::Exponential => libm::exp(of(index)),
                    AnchorHead::Squared => 4.0 * squash(of(index)) * squash(of(index)),
                };
                let corners = corners_of_centre(
                    ((cell % columns) as f64 + offset(0)) / columns as f64,
                    ((cell / columns) as f64 + offset(1)) / rows as f64,
                    factor(2) * anchor_width / width,
                    factor(3) * anchor_height / height,
                );
                let score = |class: usize| objectness * squash(of(5 + class));
                add(&mut detections, corners, numbers - 5, self.is_multi_label, threshold, score);
            }
        }
        Ok(detections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Extent = Extent { height: 100, width: 200 };

    #[test]
    fn rows_and_columns_hold_the_same_boxes() {
        // One candidate: centre (50, 50), size 20 × 10, classes 0.25 and 0.75.
        let rows = YoloRows { layout: Layout::Rows, input: INPUT, is_multi_label: false };
        let found = rows.decode(&[1, 1, 7], &[50.0, 50.0, 20.0, 10.0, 0.5, 0.25, 0.75], 0.1).expect("fits");
        assert_eq!(found, [Detection { class: 1, score: 0.375, corners: [0.2, 0.45, 0.3, 0.55] }]);
        let columns = YoloRows { layout: Layout::Columns, input: INPUT, is_multi_label: true };
        let found = columns.decode(&[1, 6, 1], &[50.0, 50.0, 20.0, 10.0, 0.25, 0.75], 0.1).expect("fits");
        assert_eq!(found.iter().map(|found| (found.class, found.score)).collect::<Vec<_>>(), [(0, 0.25), (1, 0.75)]);
        assert!(rows.decode(&[1, 7], &[0.0; 7], 0.1).is_err());
        assert!(columns.decode(&[2, 6, 1], &[0.0; 12], 0.1).is_err());
    }

    #[test]
    fn a_feature_map_of_zeros_puts_anchors_in_the_middle_of_cells() {
        let head = |head| YoloAnchors {
            anchors: vec![[20.0, 10.0], [40.0, 50.0]],
            masks: vec![vec![1]],
            input: INPUT,
            head,
            is_raw: true,
            is_multi_label: false,
        };
        let exponential = head(AnchorHead::Exponential);
        let found = exponential.decode(0, &[1, 6, 1, 2], &[0.0; 12], 0.1).expect("fits");
        let box_at = |x: f64| Detection { class: 0, score: 0.25, corners: [x - 0.1, 0.25, x + 0.1, 0.75] };
        assert_eq!(found, [box_at(0.25), box_at(0.75)]);
        assert_eq!(head(AnchorHead::Squared).decode(0, &[1, 6, 1, 2], &[0.0; 12], 0.1).expect("fits"), found);
        assert!(exponential.decode(0, &[1, 7, 1, 2], &[0.0; 14], 0.1).is_ok());
        assert!(exponential.decode(0, &[1, 5, 1, 2], &[0.0; 10], 0.1).is_err());
        assert!(exponential.decode(1, &[1, 6, 1, 2], &[0.0; 12], 0.1).is_err());
        let unknown = YoloAnchors { masks: vec![vec![2]], ..exponential };
        assert!(unknown.validate().expect_err("no such anchor").contains("anchor 2"));
    }
}
