//! accuracy-checker's preprocessing steps, turned into the steps workers carry out.

use super::document::{Node, Object};
use super::keys::STEPS;
use holdfast_common::dataset::{Preprocessing, PreprocessingStep, ResizeFilter};

/// In which order a library hands out the channels of an image it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageReader {
    /// Blue first: OpenCV, accuracy-checker's default.
    Bgr,
    /// Red first: Pillow.
    Rgb,
    /// The samples are arrays; nothing is read from image files.
    Array,
}

/// Collects steps; our decoder gives RGB, so channels are reversed only where the result depends on their order.
#[derive(Debug)]
pub struct Steps {
    steps: Vec<PreprocessingStep>,
    /// Channel order of the pixels after `steps`, and the one the declaration has reached.
    is_bgr: bool,
    should_be_bgr: bool,
}

impl Steps {
    /// Nothing is done yet to what this reader gave.
    pub fn new(reader: ImageReader) -> Steps {
        Steps { steps: Vec::new(), is_bgr: false, should_be_bgr: reader == ImageReader::Bgr }
    }

    /// Adds a step that treats all channels alike.
    pub fn push(&mut self, step: PreprocessingStep) {
        self.steps.push(step);
    }

    /// Declares that channels change their order.
    pub fn reverse_channels(&mut self) {
        self.should_be_bgr = !self.should_be_bgr;
    }

    /// Adds a normalization, which may treat every channel differently.
    pub fn normalize(&mut self, scale: f32, mean: Vec<f32>, std: Vec<f32>) {
        if mean.len() > 1 || std.len() > 1 {
            self.settle_channels();
        }
        self.steps.push(PreprocessingStep::Normalization { scale, mean, std });
    }

    /// Adds the conversion to one channel, which reads RGB.
    pub fn grayscale(&mut self) {
        self.should_be_bgr = false;
        self.settle_channels();
        self.steps.push(PreprocessingStep::Grayscale);
    }

    fn settle_channels(&mut self) {
        if self.is_bgr != self.should_be_bgr {
            self.steps.push(PreprocessingStep::ReverseChannels);
            self.is_bgr = self.should_be_bgr;
        }
    }

    /// The finished list.
    pub fn finish(mut self) -> Preprocessing {
        let gray = self.steps.contains(&PreprocessingStep::Grayscale);
        if !gray {
            self.settle_channels();
        }
        Preprocessing { steps: self.steps }
    }
}

/// Reads a list of steps.
pub(super) fn read_steps(node: &Node<'_>, reader: ImageReader) -> Option<Preprocessing> {
    let mut steps = Steps::new(reader);
    let mut complete = true;
    for element in node.array()? {
        complete &= read_step(&element, reader, &mut steps).is_some();
    }
    complete.then(|| steps.finish())
}

#[derive(Clone, Copy)]
enum Kind {
    Resize,
    Crop,
    ReverseChannels,
    Grayscale,
    Normalization,
    Unsupported,
}

const KINDS: [(&str, Kind); 14] = [
    ("resize", Kind::Resize),
    ("crop", Kind::Crop),
    ("bgr_to_rgb", Kind::ReverseChannels),
    ("rgb_to_bgr", Kind::ReverseChannels),
    ("grayscale", Kind::Grayscale),
    ("normalization", Kind::Normalization),
    ("bgr_to_gray", Kind::Unsupported),
    ("rgb_to_gray", Kind::Unsupported),
    ("crop_rect", Kind::Unsupported),
    ("extend_around_rect", Kind::Unsupported),
    ("flip", Kind::Unsupported),
    ("padding", Kind::Unsupported),
    ("auto_resize", Kind::Unsupported),
    ("geometric_transformations", Kind::Unsupported),
];

fn read_step(node: &Node<'_>, reader: ImageReader, steps: &mut Steps) -> Option<()> {
    let object = node.object()?;
    let kind_node = object.required("type")?;
    let kind = kind_node.choice(&KINDS)?;
    let word = kind_node.string()?;
    if let Some(section) = STEPS.iter().find(|section| section.name == word) {
        object.refuse_unknown(section, &["type"]);
    }
    let image_only = matches!(kind, Kind::Resize | Kind::Crop | Kind::ReverseChannels | Kind::Grayscale);
    if image_only && reader == ImageReader::Array {
        kind_node.refuse("needs images, but the samples are arrays", Some("arrays can be normalized, nothing else"));
        return None;
    }
    match kind {
        Kind::Resize => read_resize(&object).map(|step| steps.push(step)),
        Kind::Crop => read_crop(&object).map(|step| steps.push(step)),
        Kind::ReverseChannels => {
            steps.reverse_channels();
            Some(())
        }
        Kind::Grayscale => {
            steps.grayscale();
            Some(())
        }
        Kind::Normalization => read_normalization(&object, reader, steps),
        Kind::Unsupported => {
            kind_node.unsupported("this release has resize, crop, bgr_to_rgb, rgb_to_bgr, grayscale and normalization");
            return None;
        }
    }
}

fn read_resize(object: &Object<'_>) -> Option<PreprocessingStep> {
    let filter = read_filter(object);
    let shortest = match object.get("aspect_ratio_scale") {
        None => false,
        Some(node) if node.string()? == "greater" => true,
        Some(node) => {
            node.unsupported("`greater` makes the shorter side `size` long; without the key both sides are exact");
            return None;
        }
    };
    if !shortest {
        let (height, width) = read_extent(object)?;
        return Some(PreprocessingStep::Resize { height, width, filter: filter? });
    }
    let (height, width) = read_extent(object)?;
    if height != width {
        object.node().refuse("keeps the aspect ratio and cannot have two sizes", Some("give `size`"));
        return None;
    }
    Some(PreprocessingStep::ResizeShortest { size: height, filter: filter? })
}

fn read_filter(object: &Object<'_>) -> Option<ResizeFilter> {
    object.only_boolean("use_tensorflow", false, "use OpenCV's or Pillow's filters");
    let pillow_flag = object.get("use_pillow").map_or(Some(false), |node| node.boolean());
    let pillow = match object.get("resize_realization") {
        Some(node) => node.choice(&[("pillow", true), ("opencv", false)]),
        None => pillow_flag,
    };
    let Some(node) = object.get("interpolation") else {
        return Some(if pillow? { ResizeFilter::PillowBilinear } else { ResizeFilter::OpencvLinear });
    };
    match (pillow?, node.string()?.to_ascii_uppercase().as_str()) {
        (true, "BILINEAR" | "LINEAR") => Some(ResizeFilter::PillowBilinear),
        (true, "BICUBIC" | "CUBIC") => Some(ResizeFilter::PillowBicubic),
        (false, "BILINEAR" | "LINEAR") => Some(ResizeFilter::OpencvLinear),
        (true, _) => {
            node.unsupported("Pillow's BILINEAR and BICUBIC are there");
            None
        }
        (false, _) => {
            node.unsupported("OpenCV's LINEAR is there, and with `\"use_pillow\": true` BILINEAR and BICUBIC");
            None
        }
    }
}

fn read_crop(object: &Object<'_>) -> Option<PreprocessingStep> {
    // Pillow and OpenCV cut the same pixels.
    if let Some(node) = object.get("use_pillow") {
        node.boolean();
    }
    if let Some(node) = object.get("central_fraction") {
        node.unsupported("give `size`, or `dst_height` and `dst_width`");
        return None;
    }
    let (height, width) = read_extent(object)?;
    Some(PreprocessingStep::CenterCrop { height, width })
}

/// Either `size`, or `dst_height` and `dst_width`: height and width in pixels.
fn read_extent(object: &Object<'_>) -> Option<(usize, usize)> {
    const SIDE_MAX: i64 = 1 << 14;
    let side = |node: Node<'_>| node.integer(1, SIDE_MAX).and_then(|side| usize::try_from(side).ok());
    let (size, height, width) = (object.get("size"), object.get("dst_height"), object.get("dst_width"));
    match (size, height, width) {
        (Some(size), None, None) => side(size).map(|side| (side, side)),
        (None, Some(height), Some(width)) => {
            let (height, width) = (side(height), side(width));
            Some((height?, width?))
        }
        _ => {
            object.node().refuse("should have either `size`, or `dst_height` and `dst_width`", None);
            None
        }
    }
}

/// Values accuracy-checker knows by name, in the order of OpenCV's channels, in units of 0 to 255 (its `Normalize`).
const PRECOMPUTED: [(&str, [f32; 3]); 2] =
    [("imagenet", [104.006_99, 116.668_77, 122.678_91]), ("cifar10", [125.307, 122.961, 113.8575])];

fn read_normalization(object: &Object<'_>, reader: ImageReader, steps: &mut Steps) -> Option<()> {
    object.only_boolean("images_only", false, "give every input its own list of steps");
    let scale = match object.get("scale") {
        None => Some(1.0),
        Some(node) => node.number().map(|scale| scale as f32).filter(|scale| {
            let usable = scale.is_normal();
            if !usable {
                node.refuse("should not be zero", Some("255 brings pixels to the range 0 to 1"));
            }
            usable
        }),
    };
    let (mean_node, std_node) = (object.get("mean"), object.get("std"));
    if mean_node.is_none() && std_node.is_none() {
        object.node().refuse("should have `mean` or `std`", None);
        return None;
    }
    let mean = mean_node.as_ref().map_or(Some(vec![0.0]), read_channels);
    let std = std_node.as_ref().map_or(Some(vec![1.0]), read_channels);
    if let (Some(node), Some(std)) = (&std_node, &std)
        && std.iter().any(|deviation| !deviation.is_normal())
    {
        node.refuse("should not hold zeros", None);
        return None;
    }
    if reader == ImageReader::Rgb
        && let Some(node) = [&mean_node, &std_node].into_iter().flatten().find(|node| node.is_string())
        && node.string().is_some_and(|text| text == "imagenet")
    {
        node.warn("names values in the order blue, green, red; the samples are red first");
    }
    let (mean, std) = (mean?, std?);
    if mean.len() > 1 && std.len() > 1 && mean.len() != std.len() {
        let problem = format!("has {} means and {} deviations", mean.len(), std.len());
        object.node().refuse(&problem, Some("give one value, or one per channel for both"));
        return None;
    }
    steps.normalize(scale?, mean, std);
    Some(())
}

/// One number, a list, a text of comma-separated numbers, or the name of known values.
fn read_channels(node: &Node<'_>) -> Option<Vec<f32>> {
    if !node.is_string() {
        return Some(node.numbers()?.into_iter().map(|number| number as f32).collect());
    }
    let text = node.string()?;
    if let Some((_, values)) = PRECOMPUTED.iter().find(|(name, _)| *name == text) {
        return Some(values.to_vec());
    }
    let trimmed = text.trim().trim_start_matches(['(', '[']).trim_end_matches([')', ']']);
    let parsed: Result<Vec<f32>, _> = trimmed.split(',').map(|part| part.trim().parse::<f32>()).collect();
    match parsed {
        Ok(values) if values.iter().all(|value| value.is_finite()) => Some(values),
        _ => {
            let help = "known names: imagenet, cifar10; or give numbers";
            node.refuse("should be a number, a list of numbers or a known name", Some(help));
            None
        }
    }
}
