//! Which detections of one image find an object: by COCO's rules and by Pascal VOC's.
//!
//! Written after the behaviour of pycocotools' `COCOeval` and of the VOC development kit, which the tests compare with.

use super::Detection;
use super::record::Match;
use crate::dataset::{BoxList, TrueBox};
use std::collections::BTreeSet;

/// COCO: a detection takes the free object it overlaps most; crowds and objects of other sizes count for nothing.
pub(in super::super) struct CocoRules<'a> {
    /// Overlaps that count as found, each judged by itself.
    pub(in super::super) thresholds: &'a [f64],
    /// Detections of a class that are looked at, the surest.
    pub(in super::super) max_detections: usize,
    /// Smallest and largest area in pixels of objects that count.
    pub(in super::super) area: [f64; 2],
}

/// Pascal VOC: a detection stands or falls with the one object it overlaps most.
pub(in super::super) struct VocRules {
    /// Overlap from which an object is found.
    pub(in super::super) threshold: f64,
    /// Whether difficult objects count for nothing.
    pub(in super::super) ignore_difficult: bool,
    /// Whether edges are pixels that belong to their box, as in the development kit.
    pub(in super::super) include_boundaries: bool,
}

/// Left, upper edge, width, height in pixels of the original.
type PixelBox = [f64; 4];

/// The detections and objects of one class in one image.
struct Class<'a> {
    class: u32,
    detections: Vec<(f32, PixelBox)>,
    objects: Vec<&'a TrueBox>,
}

/// Sorts by class; classes ascending, detections surest first, at most `limit` of a class.
fn by_class<'a>(detections: &[Detection], truth: &'a BoxList, limit: usize) -> Vec<Class<'a>> {
    let (width, height) = (f64::from(truth.width), f64::from(truth.height));
    let classes: BTreeSet<u32> =
        detections.iter().map(|found| found.class).chain(truth.boxes.iter().map(|object| object.class)).collect();
    let of_class = |class: u32| {
        let mut own: Vec<&Detection> = detections.iter().filter(|found| found.class == class).collect();
        own.sort_by(|a, b| b.score.total_cmp(&a.score));
        own.truncate(limit);
        let pixels = |found: &Detection| {
            let [left, upper, right, lower] = found.corners;
            let (x, y) = (left * width, upper * height);
            (found.score, [x, y, right * width - x, lower * height - y])
        };
        Class {
            class,
            detections: own.into_iter().map(pixels).collect(),
            objects: truth.boxes.iter().filter(|object| object.class == class).collect(),
        }
    };
    classes.into_iter().map(of_class).collect()
}

/// Intersection over union, or over the detection's own area where the object is a crowd. `margin` is what a pixel adds
/// to a width: 0, or 1 where edges belong to the box.
fn overlap(found: &PixelBox, object: &PixelBox, is_crowd: bool, margin: f64) -> f64 {
    let width = (found[0] + found[2]).min(object[0] + object[2]) - found[0].max(object[0]) + margin;
    let height = (found[1] + found[3]).min(object[1] + object[3]) - found[1].max(object[1]) + margin;
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |pixels: &PixelBox| (pixels[2] + margin) * (pixels[3] + margin);
    let intersection = width * height;
    let union = if is_crowd { area(found) } else { area(found) + area(object) - intersection };
    intersection / union
}

impl CocoRules<'_> {
    /// The records of one image: objects that count, per class, and what became of every detection.
    pub(in super::super) fn matches(&self, detections: &[Detection], truth: &BoxList) -> (Vec<(u32, u32)>, Vec<Match>) {
        let (mut counts, mut matches) = (Vec::new(), Vec::new());
        for mut class in by_class(detections, truth, self.max_detections) {
            let ignored = |object: &&TrueBox| object.is_crowd || self.is_outside(object.area);
            // Objects that count come first, otherwise in their own order.
            class.objects.sort_by_key(|object| ignored(object));
            let counted = class.objects.iter().filter(|object| !ignored(object)).count();
            if counted > 0 {
                counts.push((class.class, counted as u32));
            }
            let start = matches.len();
            for (score, _) in &class.detections {
                matches.push(Match { class: class.class, score: *score, hits: 0, ignored: 0 });
            }
            for (bit, threshold) in self.thresholds.iter().enumerate() {
                let mut is_taken = vec![false; class.objects.len()];
                for ((_, pixels), record) in class.detections.iter().zip(&mut matches[start..]) {
                    let best = self.best(pixels, &class.objects, counted, &is_taken, *threshold);
                    let is_ignored = match best {
                        Some(object) => {
                            is_taken[object] = true;
                            record.hits |= 1 << bit;
                            object >= counted
                        }
                        None => self.is_outside(pixels[2] * pixels[3]),
                    };
                    record.ignored |= u32::from(is_ignored) << bit;
                }
            }
        }
        (counts, matches)
    }

    fn is_outside(&self, area: f64) -> bool {
        area < self.area[0] || area > self.area[1]
    }

    /// The free object that overlaps a detection most, from the threshold on; the last of equals, as COCO's own code has
    /// it. Those that count for nothing are only looked at where no other is found.
    fn best(
        &self,
        pixels: &PixelBox,
        objects: &[&TrueBox],
        counted: usize,
        is_taken: &[bool],
        threshold: f64,
    ) -> Option<usize> {
        let mut reached = threshold.min(1.0 - 1e-10);
        let mut best = None;
        for (index, object) in objects.iter().enumerate() {
            if index >= counted && best.is_some_and(|best| best < counted) {
                break;
            }
            if is_taken[index] && !object.is_crowd {
                continue;
            }
            let overlap = overlap(pixels, &object.bbox, object.is_crowd, 0.0);
            if overlap >= reached {
                reached = overlap;
                best = Some(index);
            }
        }
        best
    }
}

impl VocRules {
    /// The records of one image: objects that count, per class, and what became of every detection.
    pub(in super::super) fn matches(&self, detections: &[Detection], truth: &BoxList) -> (Vec<(u32, u32)>, Vec<Match>) {
        let (mut counts, mut matches) = (Vec::new(), Vec::new());
        let margin = if self.include_boundaries { 1.0 } else { 0.0 };
        for class in by_class(detections, truth, usize::MAX) {
            let is_ignored = |object: &TrueBox| self.ignore_difficult && object.is_difficult;
            let counted = class.objects.iter().filter(|object| !is_ignored(object)).count();
            if counted > 0 {
                counts.push((class.class, counted as u32));
            }
            let mut is_taken = vec![false; class.objects.len()];
            for (score, pixels) in &class.detections {
                let mut best: Option<(usize, f64)> = None;
                for (index, object) in class.objects.iter().enumerate() {
                    let overlap = overlap(pixels, &object.bbox, false, margin);
                    if best.is_none_or(|(_, reached)| overlap > reached) {
                        best = Some((index, overlap));
                    }
                }
                let mut record = Match { class: class.class, score: *score, hits: 0, ignored: 0 };
                if let Some((index, _)) = best.filter(|(_, reached)| *reached >= self.threshold) {
                    if is_ignored(class.objects[index]) {
                        record.ignored = 1;
                    } else if !is_taken[index] {
                        is_taken[index] = true;
                        record.hits = 1;
                    }
                }
                matches.push(record);
            }
        }
        (counts, matches)
    }
}
