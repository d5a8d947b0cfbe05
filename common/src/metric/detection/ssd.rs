//! SSD heads: boxes and class scores apart, the boxes decoded already or as offsets from priors.

use super::super::log_probability::softmax;
use super::{Detection, corners_of_centre};
use serde::{Deserialize, Serialize};

/// The order of a box's four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// Left, upper, right, lower edge.
    Xyxy,
    /// Upper, left, lower, right edge (TensorFlow).
    Yxyx,
    /// Left and upper edge, width, height.
    Xywh,
    /// Centre, width, height.
    Cxcywh,
}

/// How far offsets from priors move: the centre by prior size × variance × offset, sizes by exp(variance × offset).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variances {
    /// For centres.
    pub centre: f64,
    /// For sizes.
    pub size: f64,
}

/// Outputs boxes [1, candidates, 4] and scores [1, candidates, classes].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ssd {
    /// Name of the output with the boxes.
    pub boxes_out: String,
    /// Name of the output with the scores.
    pub scores_out: String,
    /// Order of the numbers of a decoded box.
    pub format: BoxFormat,
    /// What decoded coordinates are divided by, across and down: the input's width and height, or 1.
    pub extent: [f64; 2],
    /// Centres and sizes of the priors, as shares of the image; `None`: boxes are decoded already.
    pub priors: Option<Vec<[f64; 4]>>,
    /// Scale of offsets from priors.
    pub variances: Variances,
    /// Whether scores are logits that a softmax over the classes makes shares.
    pub is_softmax: bool,
    /// Whether class 0 stands for nothing; the others then count from 0.
    pub has_background: bool,
}

/// A tensor's shape and elements.
type Tensor<'a> = (&'a [usize], &'a [f32]);

impl Ssd {
    /// The error says what was expected.
    pub(super) fn decode(
        &self,
        boxes: Tensor<'_>,
        scores: Tensor<'_>,
        threshold: f64,
    ) -> Result<Vec<Detection>, String> {
        let &[1, candidates, 4] = boxes.0 else {
            return Err(format!(
                "output `{}` has shape {:?}; [1, candidates, 4] was expected",
                self.boxes_out, boxes.0
            ));
        };
        let first = usize::from(self.has_background);
        let classes = match scores.0 {
            &[1, found, classes] if found == candidates && classes > first => classes,
            found => {
                return Err(format!(
                    "output `{}` has shape {found:?}; [1, {candidates}, classes] was expected",
                    self.scores_out
                ));
            }
        };
        if let Some(priors) = &self.priors
            && priors.len() != candidates
        {
            return Err(format!("there are {candidates} boxes, but {} priors", priors.len()));
        }
        let (boxes, _) = boxes.1.as_chunks::<4>();
        let mut detections = Vec::new();
        for (candidate, (numbers, scores)) in boxes.iter().zip(scores.1.chunks_exact(classes)).enumerate() {
            let prior = self.priors.as_ref().and_then(|priors| priors.get(candidate));
            let corners = self.corners(numbers.map(f64::from), prior);
            let shares =
                if self.is_softmax { softmax(scores) } else { scores.iter().copied().map(f64::from).collect() };
            for (class, &score) in shares[first..].iter().enumerate() {
                if score > threshold {
                    detections.push(Detection { class: class as u32, score: score as f32, corners });
                }
            }
        }
        Ok(detections)
    }

    fn corners(&self, numbers: [f64; 4], prior: Option<&[f64; 4]>) -> [f64; 4] {
        let [a, b, c, d] = numbers;
        if let Some(&[x, y, width, height]) = prior {
            let Variances { centre, size } = self.variances;
            return corners_of_centre(
                x + a * centre * width,
                y + b * centre * height,
                width * libm::exp(c * size),
                height * libm::exp(d * size),
            );
        }
        let [across, down] = self.extent;
        let [left, upper, right, lower] = match self.format {
            BoxFormat::Xyxy => [a, b, c, d],
            BoxFormat::Yxyx => [b, a, d, c],
            BoxFormat::Xywh => [a, b, a + c, b + d],
            BoxFormat::Cxcywh => corners_of_centre(a, b, c, d),
        };
        [left / across, upper / down, right / across, lower / down]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssd(format: BoxFormat) -> Ssd {
        Ssd {
            boxes_out: "boxes".to_owned(),
            scores_out: "scores".to_owned(),
            format,
            extent: [10.0, 20.0],
            priors: None,
            variances: Variances { centre: 0.1, size: 0.2 },
            is_softmax: false,
            has_background: true,
        }
    }

    #[test]
    fn every_order_of_numbers_gives_the_same_box() {
        let orders = [
            (BoxFormat::Xyxy, [1.0, 4.0, 3.0, 8.0]),
            (BoxFormat::Yxyx, [4.0, 1.0, 8.0, 3.0]),
            (BoxFormat::Xywh, [1.0, 4.0, 2.0, 4.0]),
            (BoxFormat::Cxcywh, [2.0, 6.0, 2.0, 4.0]),
        ];
        for (format, numbers) in orders {
            let found = ssd(format).decode((&[1, 1, 4], &numbers), (&[1, 1, 3], &[0.9, 0.0, 0.5]), 0.1);
            assert_eq!(
                found,
                Ok(vec![Detection { class: 1, score: 0.5, corners: [0.1, 0.2, 0.3, 0.4] }]),
                "{format:?}"
            );
        }
    }

    #[test]
    fn offsets_move_and_stretch_their_prior() {
        let with_priors = Ssd { priors: Some(vec![[0.5, 0.5, 0.25, 0.5]]), is_softmax: true, ..ssd(BoxFormat::Xyxy) };
        let scores: (&[usize], &[f32]) = (&[1, 1, 2], &[0.0, 0.0]);
        let found = with_priors.decode((&[1, 1, 4], &[10.0, 0.0, 0.0, 0.0]), scores, 0.1).expect("fits");
        assert_eq!(found, [Detection { class: 0, score: 0.5, corners: [0.625, 0.25, 0.875, 0.75] }]);
        let short = with_priors.decode((&[1, 2, 4], &[0.0; 8]), (&[1, 2, 2], &[0.0; 4]), 0.1);
        assert!(short.expect_err("a prior is missing").contains("2 boxes, but 1 priors"));
        assert!(with_priors.decode((&[1, 4], &[0.0; 4]), scores, 0.1).is_err());
        assert!(with_priors.decode((&[1, 1, 4], &[0.0; 4]), (&[1, 2], &[0.0; 2]), 0.1).is_err());
    }
}
