//! A detector as declared: `adapter` says how outputs become boxes, `postprocessing` which of them stay.

use super::super::input::Input;
use super::super::parameters::{DeclarationError, Parameters};
use super::super::{MetricError, Outputs};
use super::{
    AnchorHead, BoxFormat, Detection, Extent, Grid, Layout, MAX_DETECTIONS, Ssd, Suppression, Variances, YoloAnchors,
    YoloRows, nms,
};
use serde::{Deserialize, Serialize};

/// How a model's outputs become boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// What the outputs mean.
    pub head: Head,
    /// Outputs the head reads, in its order; empty: the metric's own output.
    pub outputs: Vec<String>,
    /// A detection must score above this.
    pub threshold: f64,
    /// What becomes of boxes that overlap; `None`: they stay.
    pub suppression: Option<Suppression>,
    /// Detections an image keeps, the surest of all classes.
    pub keep_top_k: usize,
}

/// What a detector's outputs mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One feature map, one object a cell.
    Grid(Grid),
    /// Decoded boxes and scores in one output.
    YoloRows(YoloRows),
    /// Raw feature maps with anchors.
    YoloAnchors(YoloAnchors),
    /// Boxes and scores in two outputs.
    Ssd(Ssd),
}

#[derive(Clone, Copy)]
enum Kind {
    Grid,
    Rows(Layout),
    Anchors(AnchorHead),
    Ssd,
}

/// The words heads are declared by.
const KINDS: [(&str, Kind); 7] = [
    ("fastestdet", Kind::Grid),
    ("yolo_v5", Kind::Rows(Layout::Rows)),
    ("yolo_v8", Kind::Rows(Layout::Columns)),
    ("yolo_v8_detection", Kind::Rows(Layout::Columns)),
    ("yolo_v3", Kind::Anchors(AnchorHead::Exponential)),
    ("yolo_v5_raw", Kind::Anchors(AnchorHead::Squared)),
    ("ssd", Kind::Ssd),
];

/// What a detection must score where nothing is said.
const THRESHOLD: f64 = 0.01;

fn kinds_text() -> String {
    format!("its `type` is one of {}", KINDS.map(|(word, _)| word).join(", "))
}

fn read_grid(adapter: &mut Parameters<'_>) -> Result<Grid, DeclarationError> {
    let objectness_power = adapter.number("objectness_power", 0.0, 16.0)?.unwrap_or(0.6);
    let class_power = adapter.number("class_power", 0.0, 16.0)?.unwrap_or(0.4);
    Ok(Grid { objectness_power, class_power })
}

fn read_rows(adapter: &mut Parameters<'_>, layout: Layout) -> Result<YoloRows, DeclarationError> {
    let is_multi_label = adapter.boolean("multi_label")?.unwrap_or(false);
    let input = read_extent(adapter)?;
    Ok(YoloRows { layout, input, is_multi_label })
}

/// `input_size`: one number for a square, or height and width.
fn read_extent(adapter: &mut Parameters<'_>) -> Result<Extent, DeclarationError> {
    let side = |side: f64| (side.fract() == 0.0 && (1.0..=65536.0).contains(&side)).then_some(side as u32);
    let expected = "should be the model input's height and width in pixels, or one number for a square";
    let extent = match adapter.numbers("input_size")?.as_deref() {
        Some(&[both]) => side(both).zip(side(both)),
        Some(&[height, width]) => side(height).zip(side(width)),
        _ => None,
    };
    match extent {
        Some((height, width)) => Ok(Extent { height, width }),
        None => adapter.refuse("input_size", expected),
    }
}

fn read_anchors(
    adapter: &mut Parameters<'_>,
    head: AnchorHead,
) -> Result<(YoloAnchors, Vec<String>), DeclarationError> {
    let numbers = adapter.numbers("anchors")?.unwrap_or_default();
    let masks = adapter.value("anchor_masks").and_then(|masks| serde_json::from_value(masks.clone()).ok());
    let outputs = adapter.texts("outputs")?.unwrap_or_default();
    let is_raw = adapter.boolean("raw_output")?.unwrap_or(true);
    let is_multi_label = adapter.boolean("multi_label")?.unwrap_or(false);
    let (anchors, rest) = numbers.as_chunks::<2>();
    if anchors.is_empty() || !rest.is_empty() || numbers.iter().any(|number| *number <= 0.0) {
        return adapter.refuse("anchors", "should be a list of widths and heights in pixels of the model input");
    }
    let Some(masks) = masks.or_else(|| outputs.is_empty().then(|| vec![(0..anchors.len()).collect()])) else {
        return adapter
            .refuse("anchor_masks", "should say which anchors each output uses, such as [[6, 7, 8], [3, 4, 5]]");
    };
    let masks: Vec<Vec<usize>> = masks;
    if masks.len() != outputs.len().max(1) {
        let (masks, outputs) = (masks.len(), outputs.len().max(1));
        return adapter
            .refuse("anchor_masks", format!("has {masks} entries for {outputs} outputs; name the `outputs`"));
    }
    let input = read_extent(adapter)?;
    let head = YoloAnchors { anchors: anchors.to_vec(), masks, input, head, is_raw, is_multi_label };
    match head.validate() {
        Ok(()) => Ok((head, outputs)),
        Err(problem) => adapter.refuse("anchor_masks", format!("does not fit `anchors`: {problem}")),
    }
}

fn read_ssd(adapter: &mut Parameters<'_>) -> Result<Ssd, DeclarationError> {
    let boxes_out = adapter.text("bboxes_out")?.map(str::to_owned);
    let scores_out = adapter.text("scores_out")?.map(str::to_owned);
    let formats = [
        ("xyxy", BoxFormat::Xyxy),
        ("yxyx", BoxFormat::Yxyx),
        ("xywh", BoxFormat::Xywh),
        ("cxcywh", BoxFormat::Cxcywh),
    ];
    let format = adapter.choice("box_format", &formats)?.unwrap_or(BoxFormat::Xyxy);
    let is_normalized = adapter.boolean("normalized")?.unwrap_or(true);
    let priors = adapter.numbers("priors")?;
    let variances = adapter.numbers("variance")?.unwrap_or_else(|| vec![0.1, 0.1, 0.2, 0.2]);
    let is_softmax = adapter.boolean("softmax")?.unwrap_or(false);
    let has_background = adapter.boolean("has_background")?.unwrap_or(true);
    let extent = if is_normalized {
        [1.0, 1.0]
    } else {
        let Extent { height, width } = read_extent(adapter)?;
        [f64::from(width), f64::from(height)]
    };
    let priors = match priors {
        None => None,
        Some(numbers) => match numbers.as_chunks::<4>() {
            (priors, []) => Some(priors.to_vec()),
            _ => return adapter.refuse("priors", "should list centre x, centre y, width and height of every prior"),
        },
    };
    let variances = match *variances.as_slice() {
        [centre, size] => Variances { centre, size },
        [x, y, width, height] if x == y && width == height => Variances { centre: x, size: width },
        _ => return adapter.refuse("variance", "should be two numbers: for centres and for sizes"),
    };
    match (boxes_out, scores_out) {
        (Some(boxes_out), Some(scores_out)) => {
            Ok(Ssd { boxes_out, scores_out, format, extent, priors, variances, is_softmax, has_background })
        }
        (None, _) => adapter.refuse("bboxes_out", "is missing; name the output with the boxes"),
        (_, None) => adapter.refuse("scores_out", "is missing; name the output with the scores"),
    }
}

#[derive(Clone, Copy)]
enum Step {
    Nms,
    Filter,
    Implied,
}

impl Detector {
    /// Reads `adapter` and `postprocessing` beside a detection metric.
    pub(in super::super) fn read(parameters: &mut Parameters<'_>) -> Result<Detector, DeclarationError> {
        let adapter = parameters.object("adapter")?;
        let postprocessing = parameters.objects("postprocessing")?;
        let Some(mut adapter) = adapter else {
            return parameters.refuse("adapter", format!("is missing; {}", kinds_text()));
        };
        let Some(kind) = adapter.choice("type", &KINDS)? else {
            return adapter.refuse("type", format!("is missing; {}", kinds_text()));
        };
        let threshold = adapter.number("conf_threshold", 0.0, 1.0)?.unwrap_or(THRESHOLD);
        let (head, outputs) = match kind {
            Kind::Grid => (Head::Grid(read_grid(&mut adapter)?), Vec::new()),
            Kind::Rows(layout) => (Head::YoloRows(read_rows(&mut adapter, layout)?), Vec::new()),
            Kind::Anchors(head) => {
                let (head, outputs) = read_anchors(&mut adapter, head)?;
                (Head::YoloAnchors(head), outputs)
            }
            Kind::Ssd => {
                let head = read_ssd(&mut adapter)?;
                let outputs = vec![head.boxes_out.clone(), head.scores_out.clone()];
                (Head::Ssd(head), outputs)
            }
        };
        adapter.finish()?;
        let mut detector = Detector { head, outputs, threshold, suppression: None, keep_top_k: MAX_DETECTIONS };
        for step in postprocessing {
            detector.read_step(step)?;
        }
        Ok(detector)
    }

    fn read_step(&mut self, mut step: Parameters<'_>) -> Result<(), DeclarationError> {
        let words = [
            ("nms", Step::Nms),
            ("filter", Step::Filter),
            // Boxes are shares of the image all along, and compared in pixels of the original.
            ("resize_prediction_boxes", Step::Implied),
        ];
        match step.choice("type", &words)? {
            None => return step.refuse("type", "is missing; it is \"nms\" or \"filter\""),
            Some(Step::Implied) => {}
            Some(Step::Nms) => {
                let overlap = step.number("overlap", 0.0, 1.0)?.unwrap_or(0.5);
                let is_class_agnostic = step.boolean("class_agnostic")?.unwrap_or(false);
                if step.boolean("include_boundaries")? == Some(true) {
                    return step
                        .refuse("include_boundaries", "cannot be true: boxes have no pixels before they are compared");
                }
                self.suppression = Some(Suppression { overlap, is_class_agnostic });
                self.keep_top_k = step.count("keep_top_k", 1)?.unwrap_or(MAX_DETECTIONS).min(MAX_DETECTIONS);
            }
            Some(Step::Filter) => {
                if step.choice("apply_to", &[("prediction", ())])?.is_none() {
                    return step.refuse("apply_to", "is missing; \"prediction\" is what can be filtered");
                }
                let least = step.number("min_confidence", 0.0, 1.0)?.unwrap_or(0.0);
                self.threshold = self.threshold.max(least);
            }
        }
        step.finish()
    }

    pub(in super::super) fn validate(&self) -> Result<(), String> {
        if self.keep_top_k > MAX_DETECTIONS {
            return Err(format!("{} detections an image; {MAX_DETECTIONS} are possible", self.keep_top_k));
        }
        match &self.head {
            Head::YoloAnchors(head) if head.masks.len() == self.outputs.len().max(1) => head.validate(),
            Head::YoloAnchors(_) => Err("it has another number of feature maps than of outputs".to_owned()),
            Head::Grid(_) | Head::YoloRows(_) | Head::Ssd(_) => Ok(()),
        }
    }

    /// What the outputs of one sample say, surest first.
    pub(in super::super) fn detect(&self, input: &Input, outputs: &Outputs<'_>) -> Result<Vec<Detection>, MetricError> {
        let mut tensors = Vec::with_capacity(self.outputs.len().max(1));
        if self.outputs.is_empty() {
            tensors.push(input.values(outputs)?);
        }
        for name in &self.outputs {
            tensors.push(input.values_of(outputs, Some(name))?);
        }
        let tensors: Vec<(&[usize], &[f32])> =
            tensors.iter().map(|(array, values)| (array.shape(), values.as_ref())).collect();
        let found = match (&self.head, tensors.as_slice()) {
            (Head::Grid(head), &[(shape, values)]) => head.decode(shape, values, self.threshold),
            (Head::YoloRows(head), &[(shape, values)]) => head.decode(shape, values, self.threshold),
            (Head::Ssd(head), &[boxes, scores]) => head.decode(boxes, scores, self.threshold),
            (Head::YoloAnchors(head), maps) => {
                let decode = |(map, &(shape, values)): (usize, &(&[usize], &[f32]))| {
                    head.decode(map, shape, values, self.threshold)
                };
                maps.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>().map(|maps| maps.concat())
            }
            (Head::Grid(_) | Head::YoloRows(_) | Head::Ssd(_), found) => {
                Err(format!("the head cannot read {} outputs", found.len()))
            }
        };
        let mut found = found.map_err(|problem| input.output_error(problem))?;
        if let Some(odd) = found.iter().find(|found| !found.corners.iter().all(|corner| corner.is_finite())) {
            return Err(input.output_error(format!("a box has the corners {:?}; they must be finite", odd.corners)));
        }
        nms::sort(&mut found);
        found.truncate(MAX_DETECTIONS);
        if let Some(suppression) = &self.suppression {
            found = suppression.apply(found);
        }
        found.truncate(self.keep_top_k);
        Ok(found)
    }
}
