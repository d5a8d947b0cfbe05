//! Boxes, class maps, texts, tokens and archives: what is read from the files that common tools write, and what is refused.

use super::dimensions::read_dimensions;
use super::tests::{arrays, floats, folder, images, labels_in, npy, refusal, scan_quietly};
use super::*;
use holdfast_common::dataset::{BoxList, ClassMap, ElementType, TrueBox};
use tempfile::TempDir;

const STORED: &[u8] = include_bytes!("fixtures/stored.npz");
const PACKED: &[u8] = include_bytes!("fixtures/packed.npz");
const GREY: &[u8] = include_bytes!("fixtures/grey.png");
const PALETTE: &[u8] = include_bytes!("fixtures/palette.png");
const DEEP: &[u8] = include_bytes!("fixtures/deep.png");
const PHOTO: &[u8] = include_bytes!("fixtures/photo.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("fixtures/progressive.jpg");
const BITMAP: &[u8] = include_bytes!("fixtures/photo.bmp");

fn annotations(request: &DatasetRequest) -> Vec<Annotation> {
    let (manifest, _) = scan_quietly(request).expect("sound");
    manifest.samples.into_iter().map(|sample| sample.annotation).collect()
}

fn with(data: &TempDir, labels: LabelSource) -> DatasetRequest {
    images(&data.path().join("images"), labels)
}

fn object(class: u32, bbox: [f64; 4], area: f64) -> TrueBox {
    TrueBox { class, bbox, area, is_crowd: false, is_difficult: false }
}

#[test]
fn the_size_of_an_image_stands_in_its_header() {
    let files = [("a.jpg", PHOTO), ("b.jpg", PROGRESSIVE), ("c.bmp", BITMAP)].map(|(name, file)| (name, file.to_vec()));
    let data = folder(&[files.as_slice(), &[("d.png", GREY.to_vec()), ("e.png", GREY[..20].to_vec())]].concat());
    let size = |name: &str| read_dimensions(&data.path().join(name)).expect("readable");
    assert_eq!(["a.jpg", "b.jpg", "c.bmp"].map(size), [Ok((17, 11)), Ok((17, 11)), Ok((17, 11))]);
    assert_eq!(size("d.png"), Ok((5, 2)));
    assert!(size("e.png").expect_err("cut off").contains("cut off"));
    for length in 3..PHOTO.len() {
        std::fs::write(data.path().join("cut.jpg"), &PHOTO[..length]).expect("written");
        assert!(matches!(size("cut.jpg"), Ok((17, 11)) | Err(_)), "{length}");
    }
}

#[test]
fn yolo_labels_become_boxes_in_pixels() {
    let data = folder(&[
        ("images/a.jpg", PHOTO.to_vec()),
        ("images/b.jpg", PHOTO.to_vec()),
        ("labels/a.txt", b"3 0.5 0.5 1.0 0.5\n\n0 0.25 0.5 0.5 1\n".to_vec()),
    ]);
    let boxes = vec![object(3, [0.0, 2.75, 17.0, 5.5], 93.5), object(0, [0.0, 0.0, 8.5, 11.0], 93.5)];
    let list = |boxes| Annotation::Boxes(BoxList { width: 17, height: 11, boxes });
    for labels in [None, Some(data.path().join("labels"))] {
        assert_eq!(annotations(&with(&data, LabelSource::Yolo(labels))), [list(boxes.clone()), list(Vec::new())]);
    }
    let none = refusal(&with(&data, LabelSource::Yolo(Some(data.path().join("images")))));
    assert!(none.contains("no label file there"), "{none}");
    let cases = [
        ("3 0.5 0.5 1", "line 1: `3 0.5 0.5 1` is not `class x y width height`"),
        ("3 0.5 0.5 1 1 0.9", "is not `class"),
        ("dog 0.5 0.5 1 1", "is not `class"),
        ("0 0.5 0.5 0.5 0.5\n3 240 120 30 20", "line 2: `3 240 120 30 20` leaves the image"),
        ("3 0.5 0.5 -0.1 0.2", "leaves the image"),
        ("3 nan 0.5 0.1 0.2", "leaves the image"),
    ];
    for (text, expected) in cases {
        std::fs::write(data.path().join("labels/a.txt"), text).expect("written");
        let found = refusal(&with(&data, LabelSource::Yolo(None)));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn coco_categories_are_counted_as_the_model_counts() {
    let text = r#"{"info": {}, "images": [{"id": 9, "file_name": "b.jpg", "width": 17, "height": 11},
        {"id": 4, "file_name": "a.jpg", "width": 17, "height": 11}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 7, "bbox": [1, 2, 3, 4.5], "area": 5.25, "iscrowd": 1},
        {"id": 2, "image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2]]}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]}"#;
    let data = folder(&[
        ("images/a.jpg", PHOTO.to_vec()),
        ("images/b.jpg", PHOTO.to_vec()),
        ("instances.json", text.as_bytes().to_vec()),
    ]);
    let file = data.path().join("instances.json");
    let request = |numbering| with(&data, LabelSource::Coco { file: file.clone(), numbering });
    let numberings = [
        (CocoNumbering::Contiguous, [1, 0], &["cat", "dog"][..]),
        (CocoNumbering::AfterBackground, [2, 1], &["background", "cat", "dog"]),
        (CocoNumbering::CategoryIds, [7, 2], &[]),
    ];
    for (numbering, [dog, cat], classes) in numberings {
        let (manifest, _) = scan_quietly(&request(numbering)).expect("sound");
        let crowd = TrueBox { is_crowd: true, ..object(dog, [1.0, 2.0, 3.0, 4.5], 5.25) };
        let boxes = vec![crowd, object(cat, [1.0, 2.0, 3.0, 4.0], 12.0)];
        assert_eq!(manifest.samples[0].annotation, Annotation::Boxes(BoxList { width: 17, height: 11, boxes }));
        assert_eq!(manifest.classes, classes);
    }
    let cases = [
        (text.replace("b.jpg", "c.jpg"), "does not list the image `b.jpg`"),
        (text.replace("\"category_id\": 2", "\"category_id\": 3"), "annotation 1 is of category 3"),
        (text.replace("\"bbox\": [1, 2, 3, 4]", "\"bbox\": [1, 2, 3]"), "no COCO instances file"),
        (text.replace("\"id\": 7, ", "\"id\": 2, "), "one id twice"),
        (text.replace("[1, 2, 3, 4]", "[1, 2, -3, 4]"), "sizes must be finite and not negative"),
        ("[]".to_owned(), "no COCO instances file"),
    ];
    for (text, expected) in cases {
        std::fs::write(&file, text).expect("written");
        let found = refusal(&request(CocoNumbering::Contiguous));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn class_maps_are_grey_levels_or_palette_indices() {
    let data = folder(&[
        ("images/a.jpg", PHOTO.to_vec()),
        ("images/b.jpg", PHOTO.to_vec()),
        ("images/c.jpg", PHOTO.to_vec()),
        ("masks/a.png", GREY.to_vec()),
        ("masks/b.png", PALETTE.to_vec()),
        ("masks/c.png", DEEP.to_vec()),
    ]);
    let map = |factor: u32| {
        let classes = [0, 1, 1, 2, 0, 3, 3, 3, 0, 0].map(|class| class * factor);
        Annotation::Mask(ClassMap::pack(2, 5, classes.into_iter()).expect("ten pixels"))
    };
    let masks = with(&data, LabelSource::Masks(data.path().join("masks")));
    assert_eq!(annotations(&masks), [map(1), map(1), map(300)]);
    std::fs::write(data.path().join("masks/b.png"), &PALETTE[..60]).expect("written");
    assert!(refusal(&masks).contains("masks/b.png: it is no class map"), "{}", refusal(&masks));
    std::fs::remove_file(data.path().join("masks/b.png")).expect("removed");
    assert!(refusal(&masks).contains("read"), "{}", refusal(&masks));
}

#[test]
fn rows_of_integers_are_what_the_metric_needs() {
    let integers = |values: &[i32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data = folder(&[
        ("x.npy", npy("|u1", "False", "2,", &[1, 2])),
        ("rows.npy", npy("<i4", "False", "2, 3", &integers(&[1, 0, 1, 0, 0, 0]))),
        ("maps.npy", npy("<i4", "False", "2, 1, 3", &integers(&[5, 5, 0, 0, 0, 255]))),
        ("floats.npy", npy("<f4", "False", "2, 3", &floats(&[0.0; 6]))),
        ("texts.txt", b"a cab\n\n".to_vec()),
    ]);
    let request = |file: &str, truth| {
        let path = data.path().join(file);
        arrays(&data, &[("x", "x.npy")], LabelSource::Array { path, truth })
    };
    let tokens = annotations(&request("rows.npy", Truth::Tokens));
    assert_eq!(tokens, [Annotation::Tokens(vec![1, 0, 1]), Annotation::Tokens(vec![0; 3])]);
    let several = annotations(&request("rows.npy", Truth::Labels));
    assert_eq!(several, [Annotation::Labels(vec![0, 2]), Annotation::Labels(vec![])]);
    let maps = [vec![[5, 2], [0, 1]], vec![[0, 2], [255, 1]]];
    let maps = maps.map(|runs| Annotation::Mask(ClassMap { height: 1, width: 3, runs }));
    assert_eq!(annotations(&request("maps.npy", Truth::Mask)), maps);
    let texts = arrays(&data, &[("x", "x.npy")], LabelSource::Texts(data.path().join("texts.txt")));
    assert_eq!(annotations(&texts), ["a cab", ""].map(|text| Annotation::Text(text.to_owned())));
    let refusals = [
        ("rows.npy", Truth::Label, "a class label is one integer"),
        ("rows.npy", Truth::Mask, "a class map has height and width"),
        ("maps.npy", Truth::Labels, "element 0 is 5"),
        ("floats.npy", Truth::Tokens, "the array holds floats"),
        ("rows.npy", Truth::Boxes, "boxes are not read from arrays"),
    ];
    for (file, truth, expected) in refusals {
        let found = refusal(&request(file, truth));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn lines_of_file_and_text_give_the_order() {
    let data = folder(&[
        ("images/a.jpg", PHOTO.to_vec()),
        ("images/b c.jpg", PHOTO.to_vec()),
        ("lines.txt", b"b c.jpg\ttwo words\na.jpg one\n".to_vec()),
    ]);
    let (manifest, _) = scan_quietly(&with(&data, LabelSource::Texts(data.path().join("lines.txt")))).expect("sound");
    let found: Vec<_> = manifest.samples.into_iter().map(|sample| (sample.name, sample.annotation)).collect();
    let expected = [("b c.jpg", "two words"), ("a.jpg", "one")];
    assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), Annotation::Text(text.to_owned()))));
}

#[test]
fn archives_hold_arrays_by_name_packed_or_not() {
    let data = folder(&[("stored.npz", STORED.to_vec()), ("packed.npz", PACKED.to_vec())]);
    for file in ["stored.npz", "packed.npz"] {
        let labels = labels_in(data.path().join(format!("{file}:labels")));
        let (manifest, reader) = scan_quietly(&arrays(&data, &[("ids", file)], labels)).expect("sound");
        assert_eq!(manifest.fields[0].encoding, FieldEncoding::Array { element: ElementType::I64, shape: vec![4] });
        let found: Vec<_> = manifest.samples.iter().map(|sample| sample.annotation.clone()).collect();
        assert_eq!(found, [2, 0, 1].map(Annotation::Label));
        let expected: Vec<u8> = (0..12i64).flat_map(i64::to_le_bytes).collect();
        assert_eq!(reader.read_pack(0).expect("unchanged"), expected);
        let missing = refusal(&arrays(&data, &[("x", file)], LabelSource::None));
        assert!(missing.contains("no array `x`; write `file.npz:name` with one of `ids`, `labels`"), "{missing}");
    }
}

#[test]
fn a_damaged_archive_is_refused_wherever_the_damage_is() {
    for whole in [STORED, PACKED] {
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0xff;
            let data = folder(&[("a.npz", damaged), ("b.npz", whole[..at].to_vec())]);
            // Some bytes mean nothing, such as dates; what must not happen is a panic or a row that is not there.
            for file in ["a.npz:ids", "b.npz:ids"] {
                if let Ok((manifest, _)) = scan_quietly(&arrays(&data, &[("ids", file)], LabelSource::None)) {
                    assert!(manifest.samples.len() <= 3, "{file} damaged at {at}");
                }
            }
        }
    }
}
