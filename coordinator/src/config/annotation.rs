//! Where a data set's annotations lie: a file, or one of accuracy-checker's conversions.

use super::document::{Node, Object};
use super::keys::CONVERSIONS;
use super::request::AnnotationSource;
use crate::dataset::{CocoNumbering, is_array_path};
use holdfast_common::dataset::Truth;
use std::path::{Path, PathBuf};

/// The outer `None` is a mistake, the inner one the absence of labels.
pub(super) fn read_annotation(dataset: &Object<'_>, directory: &Path) -> Option<Option<AnnotationSource>> {
    let (plain, conversion) = (dataset.get("annotation"), dataset.get("annotation_conversion"));
    if let (Some(_), Some(node)) = (&plain, &conversion) {
        node.refuse("stands beside `annotation`", Some("keep one of the two"));
        return None;
    }
    match (plain, conversion) {
        (Some(node), _) => annotation_file(&node, directory).map(Some),
        (None, Some(node)) => read_conversion(&node, directory).map(Some),
        (None, None) => Some(None),
    }
}

fn annotation_file(node: &Node<'_>, directory: &Path) -> Option<AnnotationSource> {
    let path = directory.join(node.string()?);
    match path.extension().and_then(|extension| extension.to_str()) {
        _ if is_array_path(&path) => Some(AnnotationSource::Array(path)),
        Some("json") => Some(AnnotationSource::Coco { file: path, numbering: CocoNumbering::Contiguous }),
        Some("pickle" | "pkl" | "xml") => {
            let help = "give a text file of lines `file index`, an .npy array, or a COCO instances file (.json)";
            node.refuse("is in a format that is not read", Some(help));
            None
        }
        _ => Some(AnnotationSource::LabelFile(path)),
    }
}

/// How annotations of a kind are given.
pub fn annotation_advice(truth: Truth) -> &'static str {
    match truth {
        Truth::None => "give none",
        Truth::Label => "give class indices as an .npy array of integers, or as a text file of lines `file index`",
        Truth::Labels => "give an .npy array of 0 and 1, one row a sample, one column a class",
        Truth::Values => "give target values as an .npy array of floats",
        Truth::Tokens => "give an .npy array of integers, one row a sample",
        Truth::Text => "give a text file: lines `file text` for images, one line a sample for arrays",
        Truth::Boxes => "give a COCO instances file (.json), or YOLO label files by the converter \"yolo_labeling\"",
        Truth::Mask => "give an .npy array of integers [samples, height, width], or a folder of PNG class maps",
    }
}

#[derive(Clone, Copy)]
enum Converter {
    ImageNet,
    Coco,
    Yolo,
    Masks,
    Texts,
    Unsupported,
}

/// Converters of accuracy-checker; those that are there have a section in [`CONVERSIONS`].
const CONVERTERS: [(&str, Converter); 15] = [
    ("imagenet", Converter::ImageNet),
    ("mscoco_detection", Converter::Coco),
    ("yolo_labeling", Converter::Yolo),
    ("common_semantic_segmentation", Converter::Masks),
    ("character_recognition", Converter::Texts),
    ("cifar", Converter::Unsupported),
    ("mnist", Converter::Unsupported),
    ("mnist_csv", Converter::Unsupported),
    ("mscoco_segmentation", Converter::Unsupported),
    ("mscoco_keypoints", Converter::Unsupported),
    ("voc_detection", Converter::Unsupported),
    ("voc_segmentation", Converter::Unsupported),
    ("cityscapes", Converter::Unsupported),
    ("wider", Converter::Unsupported),
    ("squad", Converter::Unsupported),
];

fn read_conversion(node: &Node<'_>, directory: &Path) -> Option<AnnotationSource> {
    let conversion = node.object()?;
    let named = conversion.required("converter")?;
    let (converter, word) = (named.choice(&CONVERTERS)?, named.string()?);
    if let Some(section) = CONVERSIONS.iter().find(|section| section.name == word) {
        conversion.refuse_unknown(section, &["converter"]);
    }
    conversion.without_effect("labels_file", "class names do not change a metric");
    conversion.without_effect("dataset_meta_file", "class names do not change a metric");
    let path = |node: Node<'_>| node.string().map(|path| directory.join(path));
    match converter {
        Converter::ImageNet => {
            conversion.without_effect("images_dir", "files are named relative to `data_source`");
            conversion.only_boolean("has_background", false, "shift the class indices in the label file");
            conversion.required("annotation_file").and_then(|node| annotation_file(&node, directory))
        }
        Converter::Coco => {
            conversion.without_effect("sort_annotations", "images are taken in the order of their names");
            conversion.without_effect("images_dir", "images lie where `data_source` says");
            let numbering = read_numbering(&conversion);
            let file: Option<PathBuf> = conversion.required("annotation_file").and_then(path);
            Some(AnnotationSource::Coco { file: file?, numbering: numbering? })
        }
        Converter::Masks => {
            conversion.without_effect("images_dir", "images lie where `data_source` says");
            conversion.required("masks_dir").and_then(path).map(AnnotationSource::LabelFile)
        }
        Converter::Texts => conversion.required("annotation_file").and_then(path).map(AnnotationSource::LabelFile),
        Converter::Yolo => {
            conversion.without_effect("images_dir", "images lie where `data_source` says");
            match conversion.get("annotation_directory") {
                None => Some(AnnotationSource::Yolo(None)),
                Some(node) => path(node).map(|folder| AnnotationSource::Yolo(Some(folder))),
            }
        }
        Converter::Unsupported => {
            named.unsupported("imagenet, mscoco_detection, yolo_labeling, common_semantic_segmentation and character_recognition are there; \
                 arrays go to `annotation`");
            None
        }
    }
}

fn read_numbering(conversion: &Object<'_>) -> Option<CocoNumbering> {
    let flag = |key| conversion.or(key, false, Node::boolean);
    let (has_background, is_full) = (flag("has_background"), flag("use_full_label_map"));
    Some(match (has_background?, is_full?) {
        (_, true) => CocoNumbering::CategoryIds,
        (true, false) => CocoNumbering::AfterBackground,
        (false, false) => CocoNumbering::Contiguous,
    })
}
