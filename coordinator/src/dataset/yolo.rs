//! YOLO label files: one text file an image, lines `class x y width height`, centre and size as shares of the image.

use super::dimensions::read_dimensions;
use super::labels::{lines, read_text};
use super::{DatasetError, Listing, images};
use holdfast_common::dataset::{Annotation, BoxList, TrueBox};
use std::path::{Path, PathBuf};

/// By how much a share may leave the image: labels are written with rounded decimals.
const SLACK: f64 = 0.01;

/// The folder where labels of images usually lie: `labels` in place of the path's last `images`.
pub(super) fn labels_beside(images: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = images.components().collect();
    let position = parts.iter().rposition(|part| part.as_os_str() == "images")?;
    let replaced = |(index, part): (usize, &std::path::Component<'_>)| {
        if index == position { "labels".into() } else { part.as_os_str().to_owned() }
    };
    Some(parts.iter().enumerate().map(replaced).collect())
}

/// Images directly in a folder, sorted by name, with the boxes of the text file of the same stem. An image without such a
/// file has no objects, but some image must have one.
pub(super) fn read(folder: &Path, labels: Option<&Path>) -> Result<Listing, DatasetError> {
    let labels = match labels {
        Some(labels) => labels.to_owned(),
        None => labels_beside(folder).ok_or_else(|| {
            DatasetError::content(folder, "no folder on its path is named `images`; say where the label files lie")
        })?,
    };
    let mut listing = images::flat(folder)?;
    let mut has_labels = false;
    for (name, annotation) in listing.names.iter().zip(&mut listing.labels) {
        let image = folder.join(name);
        let size = read_dimensions(&image).map_err(DatasetError::read(&image))?;
        let (width, height) = size.map_err(|problem| DatasetError::content(&image, problem))?;
        let file = labels.join(name).with_extension("txt");
        let boxes = if file.exists() { read_file(&file, width, height)? } else { Vec::new() };
        has_labels |= file.exists();
        *annotation = Annotation::Boxes(BoxList { width, height, boxes });
    }
    if !has_labels {
        return Err(DatasetError::content(&labels, "no label file there has the name of an image, with `.txt`"));
    }
    Ok(listing)
}

fn read_file(path: &Path, width: u32, height: u32) -> Result<Vec<TrueBox>, DatasetError> {
    let text = read_text(path)?;
    let (width, height) = (f64::from(width), f64::from(height));
    let mut boxes = Vec::new();
    for (line, content) in lines(&text) {
        let refuse = |problem: String| DatasetError::Line { path: path.to_owned(), line, problem };
        let mut words = content.split_whitespace();
        let class = words.next().and_then(|class| class.parse::<u32>().ok());
        let shares: Option<Vec<f64>> = words.map(|share| share.parse().ok()).collect();
        let (Some(class), Some(&[x, y, w, h])) = (class, shares.as_deref()) else {
            return Err(refuse(format!("`{content}` is not `class x y width height`")));
        };
        let fits = |share: f64| (-SLACK..=1.0 + SLACK).contains(&share);
        if ![x, y, w, h].into_iter().all(fits) || w < 0.0 || h < 0.0 {
            return Err(refuse(format!(
                "`{content}` leaves the image; centre and size are shares of its width and height, from 0 to 1"
            )));
        }
        let bbox = [(x - w / 2.0) * width, (y - h / 2.0) * height, w * width, h * height];
        boxes.push(TrueBox { class, bbox, area: bbox[2] * bbox[3], is_crowd: false, is_difficult: false });
    }
    Ok(boxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lie_beside_the_last_folder_named_images() {
        let beside = |path: &str| labels_beside(Path::new(path));
        assert_eq!(beside("/data/images/val"), Some("/data/labels/val".into()));
        assert_eq!(beside("images/coco/images"), Some("images/coco/labels".into()));
        assert_eq!(beside("/data/pictures"), None);
    }
}
