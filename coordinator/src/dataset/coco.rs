//! COCO's `instances` files: the boxes of all images in one JSON text.

use super::{DatasetError, Listing, images};
use holdfast_common::dataset::{Annotation, BoxList, TrueBox};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes an annotation file may have.
const MAX_BYTES: u64 = 2 << 30;

/// How a model counts the categories of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CocoNumbering {
    /// From 0 in the order of category ids, without gaps.
    Contiguous,
    /// The same from 1, because 0 is the background.
    AfterBackground,
    /// Category ids are class indices.
    CategoryIds,
}

#[derive(Deserialize)]
struct Instances {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Instance>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Instance {
    image_id: u64,
    category_id: u32,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u32,
    name: String,
}

/// Images directly in a folder, sorted by name, with their boxes; every one must be listed in the file.
pub(super) fn read(folder: &Path, file: &Path, numbering: CocoNumbering) -> Result<Listing, DatasetError> {
    let refuse = |problem: String| DatasetError::content(file, problem);
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(DatasetError::read(file))?;
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(DatasetError::read(file))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(format!("it is longer than {MAX_BYTES} bytes; split the data set")));
    }
    let instances: Instances = serde_json::from_slice(&bytes)
        .map_err(|error| refuse(format!("it is no COCO instances file: {error}; give the one with `bbox` entries")))?;
    drop(bytes);
    let (indices, classes) = number(&instances.categories, numbering).map_err(refuse)?;
    let mut boxes: BTreeMap<u64, Vec<TrueBox>> = BTreeMap::new();
    for (position, instance) in instances.annotations.into_iter().enumerate() {
        let Some(&class) = indices.get(&instance.category_id) else {
            let category = instance.category_id;
            return Err(refuse(format!("annotation {position} is of category {category}, which is not listed")));
        };
        let [_, _, width, height] = instance.bbox;
        boxes.entry(instance.image_id).or_default().push(TrueBox {
            class,
            bbox: instance.bbox,
            area: instance.area.unwrap_or(width * height),
            is_crowd: instance.iscrowd != 0,
            is_difficult: false,
        });
    }
    let by_name: BTreeMap<&str, &Image> =
        instances.images.iter().map(|image| (image.file_name.as_str(), image)).collect();
    let mut listing = images::flat(folder)?;
    for (name, annotation) in listing.names.iter().zip(&mut listing.labels) {
        let Some(image) = by_name.get(name.as_str()) else {
            return Err(refuse(format!("it does not list the image `{name}`, which lies in {}", folder.display())));
        };
        let boxes = boxes.remove(&image.id).unwrap_or_default();
        *annotation = Annotation::Boxes(BoxList { width: image.width, height: image.height, boxes });
    }
    listing.classes = classes;
    Ok(listing)
}

/// The class index of every category id, and the class names where indices have no gaps.
fn number(categories: &[Category], numbering: CocoNumbering) -> Result<(BTreeMap<u32, u32>, Vec<String>), String> {
    let by_id: BTreeMap<u32, &str> = categories.iter().map(|category| (category.id, category.name.as_str())).collect();
    if by_id.len() != categories.len() || by_id.is_empty() {
        return Err("it lists no categories, or one id twice".to_owned());
    }
    let names = by_id.values().map(|name| (*name).to_owned());
    let counted = |first: u32| by_id.keys().copied().zip(first..).collect();
    Ok(match numbering {
        CocoNumbering::Contiguous => (counted(0), names.collect()),
        CocoNumbering::AfterBackground => (counted(1), std::iter::once("background".to_owned()).chain(names).collect()),
        CocoNumbering::CategoryIds => (by_id.keys().map(|id| (*id, *id)).collect(), Vec::new()),
    })
}
