//! What is known to be true of one sample, and the bounds it must keep.

use serde::{Deserialize, Serialize};

/// Boxes a sample may have.
pub const MAX_BOXES: usize = 1 << 16;

/// Runs a class map may have.
pub const MAX_MASK_RUNS: usize = 1 << 22;

/// Pixels a class map may have.
pub const MAX_MASK_PIXELS: u64 = 1 << 28;

/// Bytes of a text, and elements of a list of tokens or labels.
pub const MAX_LIST_LENGTH: usize = 1 << 20;

/// What is known to be true of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Annotation {
    /// Nothing.
    None,
    /// A class index.
    Label(u32),
    /// The classes that apply, ascending, without repetition; possibly none.
    Labels(Vec<u32>),
    /// Regression targets, in the row-major order of the model output they are compared with; finite.
    Values(Vec<f32>),
    /// Token ids, in order.
    Tokens(Vec<i64>),
    /// What an image or a recording says.
    Text(String),
    /// The objects of an image.
    Boxes(BoxList),
    /// The class of every pixel.
    Mask(ClassMap),
}

/// The kinds of annotation: what a metric compares outputs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// [`Annotation::None`]
    None,
    /// [`Annotation::Label`]
    Label,
    /// [`Annotation::Labels`]
    Labels,
    /// [`Annotation::Values`]
    Values,
    /// [`Annotation::Tokens`]
    Tokens,
    /// [`Annotation::Text`]
    Text,
    /// [`Annotation::Boxes`]
    Boxes,
    /// [`Annotation::Mask`]
    Mask,
}

impl Truth {
    /// The kind, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Truth::None => "no annotation",
            Truth::Label => "a class label",
            Truth::Labels => "a list of class labels",
            Truth::Values => "target values",
            Truth::Tokens => "token ids",
            Truth::Text => "a text",
            Truth::Boxes => "boxes",
            Truth::Mask => "a class map",
        }
    }
}

/// The objects of an image, and the size of the image their coordinates refer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoxList {
    /// Width of the original image in pixels.
    pub width: u32,
    /// Height of the original image in pixels.
    pub height: u32,
    /// The objects, in the order of the annotation file.
    pub boxes: Vec<TrueBox>,
}

/// One object, as COCO describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueBox {
    /// Class index, as the model counts.
    pub class: u32,
    /// Left edge, upper edge, width and height in pixels of the original image.
    pub bbox: [f64; 4],
    /// Area in pixels, which may be that of a segment inside the box.
    pub area: f64,
    /// Stands for a crowd: matches any number of detections and counts for none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_crowd: bool,
    /// Marked as difficult (Pascal VOC): neither found nor missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_difficult: bool,
}

/// The class of every pixel, row by row, as runs of equal pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassMap {
    /// Rows.
    pub height: u32,
    /// Pixels a row.
    pub width: u32,
    /// `[class, pixels]` of every run; the pixels sum to height × width, and none is 0.
    pub runs: Vec<[u32; 2]>,
}

impl ClassMap {
    /// Packs the classes of a row-major map; `None` where there are not height × width of them.
    pub fn pack(height: u32, width: u32, classes: impl ExactSizeIterator<Item = u32>) -> Option<ClassMap> {
        if classes.len() as u64 != u64::from(height) * u64::from(width) {
            return None;
        }
        let mut runs: Vec<[u32; 2]> = Vec::new();
        for class in classes {
            match runs.last_mut() {
                Some([last, pixels]) if *last == class && *pixels < u32::MAX => *pixels += 1,
                _ => runs.push([class, 1]),
            }
        }
        Some(ClassMap { height, width, runs })
    }

    /// The classes, row by row.
    pub fn classes(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|&[class, pixels]| std::iter::repeat_n(class, pixels as usize))
    }
}

impl Annotation {
    /// What kind it is.
    pub fn truth(&self) -> Truth {
        match self {
            Annotation::None => Truth::None,
            Annotation::Label(_) => Truth::Label,
            Annotation::Labels(_) => Truth::Labels,
            Annotation::Values(_) => Truth::Values,
            Annotation::Tokens(_) => Truth::Tokens,
            Annotation::Text(_) => Truth::Text,
            Annotation::Boxes(_) => Truth::Boxes,
            Annotation::Mask(_) => Truth::Mask,
        }
    }

    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        self.truth().name()
    }

    /// Checks bounds, and class indices against the number of classes where that is known (not 0).
    pub(super) fn validate(&self, classes: usize) -> Result<(), String> {
        match self {
            Annotation::None => Ok(()),
            Annotation::Label(label) => check_class(*label, classes),
            Annotation::Labels(labels) => {
                check_length(labels.len(), "labels")?;
                if labels.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err("its labels are not ascending".to_owned());
                }
                labels.last().map_or(Ok(()), |last| check_class(*last, classes))
            }
            Annotation::Values(values) => match values.iter().position(|value| !value.is_finite()) {
                None => Ok(()),
                Some(index) => Err(format!("target value {index} is {}", values[index])),
            },
            Annotation::Tokens(tokens) => check_length(tokens.len(), "tokens"),
            Annotation::Text(text) => check_length(text.len(), "bytes of text"),
            Annotation::Boxes(list) => list.validate(classes),
            Annotation::Mask(map) => map.validate(),
        }
    }
}

fn check_class(label: u32, classes: usize) -> Result<(), String> {
    if classes == 0 || (label as usize) < classes {
        return Ok(());
    }
    Err(format!("its label is {label}, but there are {classes} classes, counted from 0"))
}

fn check_length(found: usize, what: &str) -> Result<(), String> {
    if found <= MAX_LIST_LENGTH {
        return Ok(());
    }
    Err(format!("it has {found} {what}; {MAX_LIST_LENGTH} are possible"))
}

impl BoxList {
    fn validate(&self, classes: usize) -> Result<(), String> {
        if self.width == 0 || self.height == 0 {
            return Err(format!("its image is said to be {}×{} pixels", self.width, self.height));
        }
        if self.boxes.len() > MAX_BOXES {
            return Err(format!("it has {} boxes; {MAX_BOXES} are possible", self.boxes.len()));
        }
        for (index, object) in self.boxes.iter().enumerate() {
            let [x, y, width, height] = object.bbox;
            let is_sound = [x, y, width, height, object.area].iter().all(|number| number.is_finite());
            if !is_sound || width < 0.0 || height < 0.0 || object.area < 0.0 {
                let (bbox, area) = (object.bbox, object.area);
                return Err(format!("box {index} is {bbox:?} of area {area}; sizes must be finite and not negative"));
            }
            check_class(object.class, classes).map_err(|problem| format!("box {index}: {problem}"))?;
        }
        Ok(())
    }
}

impl ClassMap {
    /// Class names are not asked for: a value beyond them usually stands for pixels that are not judged.
    fn validate(&self) -> Result<(), String> {
        let pixels = u64::from(self.height) * u64::from(self.width);
        if pixels == 0 || pixels > MAX_MASK_PIXELS {
            let (width, height) = (self.width, self.height);
            return Err(format!("its class map is {width}×{height} pixels; 1 to {MAX_MASK_PIXELS} are possible"));
        }
        if self.runs.len() > MAX_MASK_RUNS {
            return Err(format!("its class map has {} runs; {MAX_MASK_RUNS} are possible", self.runs.len()));
        }
        let found: u64 = self.runs.iter().map(|&[_, pixels]| u64::from(pixels)).sum();
        if found != pixels || self.runs.iter().any(|&[_, pixels]| pixels == 0) {
            return Err(format!("the runs of its class map hold {found} pixels, its size takes {pixels}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_map_unpacks_to_what_was_packed() {
        let classes = [0, 0, 3, 3, 3, 0];
        let map = ClassMap::pack(2, 3, classes.into_iter()).expect("as many as pixels");
        assert_eq!(map.runs, [[0, 2], [3, 3], [0, 1]]);
        assert_eq!(map.classes().collect::<Vec<_>>(), classes);
        assert!(Annotation::Mask(map).validate(0).is_ok());
        assert!(ClassMap::pack(2, 2, classes.into_iter()).is_none());
    }

    #[test]
    fn annotations_beyond_a_bound_are_refused() {
        let object = |class, bbox| TrueBox { class, bbox, area: 1.0, is_crowd: false, is_difficult: false };
        let boxes = |width, object| Annotation::Boxes(BoxList { width, height: 4, boxes: vec![object] }).validate(2);
        assert!(boxes(4, object(1, [0.0, 0.0, 1.0, 1.0])).is_ok());
        assert!(boxes(0, object(1, [0.0, 0.0, 1.0, 1.0])).expect_err("no width").contains("0×4"));
        assert!(boxes(4, object(2, [0.0, 0.0, 1.0, 1.0])).expect_err("no such class").contains("its label is 2"));
        assert!(boxes(4, object(1, [0.0, 0.0, -1.0, 1.0])).expect_err("negative").contains("not negative"));
        assert!(boxes(4, object(1, [f64::NAN, 0.0, 1.0, 1.0])).is_err());
        let mask = |height, runs| Annotation::Mask(ClassMap { height, width: 2, runs }).validate(0);
        assert!(mask(2, vec![[0, 3]]).expect_err("too few").contains("hold 3 pixels, its size takes 4"));
        assert!(mask(u32::MAX, vec![[0, 3]]).is_err());
        assert!(mask(1, vec![[0, 2], [1, 0]]).is_err());
        assert!(Annotation::Labels(vec![1, 1]).validate(0).is_err());
        assert!(Annotation::Labels(vec![0, 2]).validate(2).is_err());
        assert!(Annotation::Text("a".repeat(MAX_LIST_LENGTH + 1)).validate(0).is_err());
    }
}
