//! Scans of small folders and arrays: order, labels, digests, and the message for everything that can be wrong.

use super::*;
use holdfast_common::Digest;
use holdfast_common::dataset::ElementType;
use std::fs;
use std::sync::Mutex;
use tempfile::TempDir;

/// Enough of a PNG for a scan, which does not decode.
fn png(text: &str) -> Vec<u8> {
    [b"\x89PNG".as_slice(), text.as_bytes()].concat()
}

pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, content).expect("written");
    }
    folder
}

pub(super) fn images(folder: &Path, labels: LabelSource) -> DatasetRequest {
    let samples = SampleSource::Images { folder: folder.to_owned(), field: "input".to_owned() };
    DatasetRequest { name: "data".to_owned(), samples, labels, classes: None, subset: Subset::All }
}

pub(super) fn arrays(folder: &TempDir, files: &[(&str, &str)], labels: LabelSource) -> DatasetRequest {
    let arrays = files.iter().map(|(name, file)| ((*name).to_owned(), folder.path().join(file))).collect();
    DatasetRequest { samples: SampleSource::Arrays(arrays), ..images(folder.path(), labels) }
}

/// Class labels or target values.
pub(super) fn labels_in(path: PathBuf) -> LabelSource {
    LabelSource::Array { path, truth: Truth::Label }
}

pub(super) fn scan_quietly(request: &DatasetRequest) -> Result<(Manifest, PackReader), DatasetError> {
    scan(request, &|_, _| {})
}

pub(super) fn refusal(request: &DatasetRequest) -> String {
    scan_quietly(request).expect_err("refused").to_string()
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.samples.iter().map(|sample| sample.name.as_str()).collect()
}

fn labels(manifest: &Manifest) -> Vec<Option<u32>> {
    let label =
        |sample: &SampleEntry| if let Annotation::Label(label) = sample.annotation { Some(label) } else { None };
    manifest.samples.iter().map(label).collect()
}

pub(super) fn npy(descriptor: &str, order: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descriptor}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), body].concat()
}

pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn classed() -> TempDir {
    folder(&[
        ("dog/2.png", png("d2")),
        ("dog/10.png", png("d10")),
        ("cat/b.PNG", png("b")),
        ("cat/.hidden.png", png("hidden")),
        ("cat/notes.txt", b"no image".to_vec()),
        ("labels.txt", b"dog/2.png 1\n".to_vec()),
    ])
}

#[test]
fn classes_and_files_are_counted_in_the_order_of_their_names() {
    let data = classed();
    for request in [images(data.path(), LabelSource::Folders), images(data.path(), LabelSource::Inferred)] {
        let (manifest, _) = scan_quietly(&request).expect("sound");
        assert_eq!(names(&manifest), ["cat/b.PNG", "dog/10.png", "dog/2.png"]);
        assert_eq!(labels(&manifest), [Some(0), Some(1), Some(1)]);
        assert_eq!(manifest.classes, ["cat", "dog"]);
    }
    let (manifest, _) = scan_quietly(&images(data.path(), LabelSource::None)).expect("sound");
    assert_eq!(labels(&manifest), [None; 3]);
}

#[test]
fn a_flat_folder_has_no_labels() {
    let data = folder(&[("b.png", png("b")), ("a.jpg", b"\xff\xd8\xffjpeg".to_vec())]);
    let (manifest, _) = scan_quietly(&images(data.path(), LabelSource::Inferred)).expect("sound");
    assert_eq!(names(&manifest), ["a.jpg", "b.png"]);
    assert_eq!(labels(&manifest), [None, None]);
}

#[test]
fn a_label_file_gives_order_and_labels() {
    for text in ["dog/2.png 7\n# remark\n\ncat/b.PNG 0\n", "file,label\n\"dog/2.png\",7\r\ncat/b.PNG, 0\r\n"] {
        let data = classed();
        let file = data.path().join("list.csv");
        fs::write(&file, text).expect("written");
        let (manifest, _) = scan_quietly(&images(data.path(), LabelSource::File(file))).expect("sound");
        assert_eq!(names(&manifest), ["dog/2.png", "cat/b.PNG"]);
        assert_eq!(labels(&manifest), [Some(7), Some(0)]);
    }
}

#[test]
fn every_mistake_in_a_label_file_is_named_with_its_line() {
    let cases = [
        ("dog/2.png 1\ndog/3.png 1", "line 2: `dog/3.png` cannot be found"),
        ("dog/2.png one", "line 1: the label `one` is no class index"),
        ("dog/2.png -1", "the label `-1` is no class index"),
        ("dog/2.png", "has no label"),
        ("dog/2.png 1\ndog/2.png 1", "line 2: `dog/2.png` stands in line 1 already"),
        ("cat/notes.txt 1", "is no image file"),
        ("../secret.png 1", "does not lie below"),
        ("/etc/secret.png 1", "does not lie below"),
        ("# nothing\n", "holds no lines"),
        ("a,b\nc,d", "line 2: the label `d`"),
    ];
    for (text, expected) in cases {
        let data = classed();
        let file = data.path().join("list.txt");
        fs::write(&file, text).expect("written");
        let found = refusal(&images(data.path(), LabelSource::File(file)));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_label_beyond_the_known_classes_is_refused() {
    let data = classed();
    fs::write(data.path().join("classes.txt"), "cat\n").expect("written");
    let classes = Some(data.path().join("classes.txt"));
    let request = DatasetRequest { classes, ..images(data.path(), LabelSource::File(data.path().join("labels.txt"))) };
    let found = refusal(&request);
    assert!(found.contains("its label is 1, but there are 1 classes"), "{found}");
}

#[test]
fn folders_that_hold_no_data_are_refused() {
    let empty = folder(&[("a/readme.txt", Vec::new())]);
    assert!(refusal(&images(empty.path(), LabelSource::Folders)).contains("holds no images"));
    let none = folder(&[("readme.txt", Vec::new())]);
    assert!(refusal(&images(none.path(), LabelSource::Inferred)).contains("neither images"));
    let fake = folder(&[("a.png", b"<html>".to_vec())]);
    assert!(
        refusal(&images(fake.path(), LabelSource::Inferred))
            .contains("sample `a.png`: field `input`: the file is no JPEG")
    );
    let missing = folder(&[]);
    let request = images(missing.path(), LabelSource::Inferred);
    drop(missing);
    assert!(matches!(scan_quietly(&request), Err(DatasetError::Read { .. })));
}

#[test]
fn links_in_a_circle_end() {
    let data = classed();
    std::os::unix::fs::symlink(data.path(), data.path().join("dog/again")).expect("linked");
    let (manifest, _) = scan_quietly(&images(data.path(), LabelSource::Folders)).expect("sound");
    assert_eq!(manifest.samples.len(), 3);
    std::os::unix::fs::symlink("self.png", data.path().join("dog/self.png")).expect("linked");
    assert!(matches!(scan_quietly(&images(data.path(), LabelSource::Folders)), Err(DatasetError::Read { .. })));
}

#[test]
fn packs_are_made_again_from_the_files_and_verified() {
    let files: Vec<(String, Vec<u8>)> = (0..130).map(|at| (format!("{at:03}.png"), png(&"x".repeat(at)))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let data = folder(&files);
    let told = Mutex::new(Vec::new());
    let request = images(data.path(), LabelSource::Inferred);
    let (manifest, reader) = scan(&request, &|done, of| told.lock().expect("lock").push((done, of))).expect("sound");
    let mut told = told.into_inner().expect("lock");
    told.sort_unstable();
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    assert_eq!((manifest.packs.len(), reader.count()), (3, 3));
    for (index, pack) in manifest.packs.iter().enumerate() {
        let expected: Vec<u8> = files[manifest.samples_of(index)].iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(reader.read_pack(index).expect("unchanged"), expected);
        assert_eq!(pack.digest, Digest::of(&expected));
        assert_eq!(reader.index_of(&pack.digest), Some(index));
    }
    assert!(reader.read_pack(3).is_err() && reader.index_of(&Digest::of(b"else")).is_none());
    fs::write(data.path().join("070.png"), png(&"y".repeat(70))).expect("written");
    let same_length = reader.read_pack(1).expect_err("changed").to_string();
    assert!(same_length.contains("from `064.png` to `127.png` changed"), "{same_length}");
    fs::write(data.path().join("070.png"), png("y")).expect("written");
    let shorter = reader.read_pack(1).expect_err("changed").to_string();
    assert!(shorter.contains("sample `070.png` changed"), "{shorter}");
    fs::remove_file(data.path().join("070.png")).expect("removed");
    assert!(reader.read_pack(1).expect_err("gone").to_string().contains("sample `070.png`"));
}

#[test]
fn two_scans_give_the_same_bytes() {
    let data = classed();
    let text = || scan_quietly(&images(data.path(), LabelSource::Folders)).expect("sound").0.to_json().expect("text");
    assert_eq!(text(), text());
}

#[test]
fn rows_of_several_arrays_stand_side_by_side() {
    let ids: Vec<u8> = (0..6i64).flat_map(i64::to_le_bytes).collect();
    let data = folder(&[
        ("ids.npy", npy("<i8", "False", "3, 2", &ids)),
        ("mask.npy", npy("|u1", "False", "3,", &[1, 0, 1])),
        ("labels.npy", npy("<i4", "False", "3,", &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])),
    ]);
    let labels_file = labels_in(data.path().join("labels.npy"));
    let request = arrays(&data, &[("ids", "ids.npy"), ("mask", "mask.npy")], labels_file);
    let (manifest, reader) = scan_quietly(&request).expect("sound");
    let encoding = FieldEncoding::Array { element: ElementType::I64, shape: vec![2] };
    assert_eq!(manifest.fields[0], Field { name: "ids".to_owned(), encoding });
    assert_eq!(names(&manifest), ["ids.npy[0]", "ids.npy[1]", "ids.npy[2]"]);
    assert_eq!(labels(&manifest), [Some(2), Some(0), Some(1)]);
    let expected = [&ids[..16], &[1], &ids[16..32], &[0], &ids[32..], &[1]].concat();
    assert_eq!(reader.read_pack(0).expect("unchanged"), expected);
}

#[test]
fn a_subset_keeps_names_labels_and_rows_together() {
    let data = folder(&[
        ("x.npy", npy("|u1", "False", "5,", &[10, 11, 12, 13, 14])),
        ("y.npy", npy("<f4", "False", "5, 1", &floats(&[0.0, 1.0, 2.0, 3.0, 4.0]))),
    ]);
    let of = |subset: Subset| {
        let request = arrays(&data, &[("x", "x.npy")], labels_in(data.path().join("y.npy")));
        scan_quietly(&DatasetRequest { subset, ..request })
    };
    let (manifest, reader) = of(Subset::Positions(vec![3, 0])).expect("sound");
    assert_eq!(names(&manifest), ["x.npy[3]", "x.npy[0]"]);
    assert_eq!(manifest.samples[0].annotation, Annotation::Values(vec![3.0]));
    assert_eq!(reader.read_pack(0).expect("unchanged"), [13, 10].as_slice());
    for (subset, count) in
        [(Subset::First(2), 2), (Subset::First(9), 5), (Subset::Share(0.5), 2), (Subset::Share(0.1), 1)]
    {
        assert_eq!(of(subset).expect("sound").0.samples.len(), count);
    }
    let bad = [Subset::First(0), Subset::Share(0.0), Subset::Share(f64::NAN), Subset::Positions(vec![])];
    for subset in bad.into_iter().chain([Subset::Positions(vec![5]), Subset::Positions(vec![1, 1])]) {
        assert!(matches!(of(subset), Err(DatasetError::Request { .. })));
    }
}

#[test]
fn arrays_that_cannot_be_used_are_refused_with_advice() {
    let body = floats(&[1.0, f32::NAN]);
    let cases: [(&str, Vec<u8>); 12] = [
        ("sample `x.npy[1]`: field `x`: element 0 is NaN", npy("<f4", "False", "2, 1", &body)),
        ("ascontiguousarray", npy("<f4", "True", "2, 1", &body)),
        ("astype", npy(">f4", "False", "2,", &body)),
        ("astype", npy("<f2", "False", "4,", &body)),
        ("the first axis must count", npy("<f4", "False", "", &body[..4])),
        ("announces shape [3]", npy("<f4", "False", "3,", &body)),
        ("announces shape [1]", npy("<f4", "False", "1,", &body)),
        ("must take 1 to", npy("<f4", "False", "1, 99999999999, 99999999999", &body)),
        ("is not understood", npy("<f4", "False", "-1,", &body)),
        ("it has 0 samples", npy("<f4", "False", "0, 1", &[])),
        ("it is no .npy file", b"PK\x03\x04 not an array".to_vec()),
        ("announces 65535999", [b"\x93NUMPY\x02\x00".as_slice(), &65_535_999u32.to_le_bytes()].concat()),
    ];
    for (expected, content) in cases {
        let data = folder(&[("x.npy", content)]);
        let found = refusal(&arrays(&data, &[("x", "x.npy")], LabelSource::None));
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn annotations_must_be_as_many_as_samples_and_make_sense() {
    let cases = [
        ("it holds 3 annotations, but there are 2 samples", npy("|u1", "False", "3,", &[0, 1, 2])),
        ("sample 1: -1 is no class index", npy("|i1", "False", "2,", &[0, 0xff])),
        ("a class label is one integer", npy("|u1", "False", "2, 2", &[0; 4])),
        ("sample 0: element 0 is not a finite number", npy("<f4", "False", "2,", &floats(&[f32::INFINITY, 0.0]))),
    ];
    for (expected, content) in cases {
        let data = folder(&[("x.npy", npy("|u1", "False", "2,", &[1, 2])), ("y.npy", content)]);
        let found = refusal(&arrays(&data, &[("x", "x.npy")], labels_in(data.path().join("y.npy"))));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn real_data_sets_are_scanned_whole() {
    let Some(bench) = std::env::var_os("HOLDFAST_BENCH").map(PathBuf::from) else {
        println!("skipped: HOLDFAST_BENCH does not name a benchmark pack");
        return;
    };
    let data = bench.join("data");
    let image_request = |path: &str, labels: LabelSource| DatasetRequest {
        name: path.to_owned(),
        samples: SampleSource::Images { folder: data.join(path), field: "input".to_owned() },
        labels,
        classes: None,
        subset: Subset::All,
    };
    let array_request = |folder: &str, arrays: &[(&str, &str)], labels: &str| DatasetRequest {
        samples: SampleSource::Arrays(
            arrays.iter().map(|(name, file)| ((*name).to_owned(), data.join(folder).join(file))).collect(),
        ),
        ..image_request(folder, labels_in(data.join(folder).join(labels)))
    };
    let tokens = [("input_ids", "test_input_ids.npy"), ("attention_mask", "test_attention_mask.npy")];
    let cases = [
        (image_request("cifar10/test", LabelSource::Inferred), 10_000, 9),
        (image_request("imagenet1k/images", LabelSource::File(data.join("imagenet1k/labels.txt"))), 1_000, 999),
        (image_request("coco/calib/images", LabelSource::Inferred), 128, 0),
        (array_request("mnist", &[("image", "test_images.npy")], "test_labels.npy"), 2_000, 9),
        (array_request("kws", &[("mfcc", "mfcc.npy")], "labels.npy"), 1_000, 11),
        (array_request("banking77", &tokens, "test_labels.npy"), 1_540, 76),
    ];
    for (request, samples, largest) in cases {
        let started = std::time::Instant::now();
        let (manifest, reader) = scan_quietly(&request).expect("sound");
        println!("{}: {} samples in {:?}", request.name, manifest.samples.len(), started.elapsed());
        assert_eq!(manifest.samples.len(), samples);
        assert_eq!(labels(&manifest).into_iter().flatten().max().unwrap_or(0), largest);
        let last = reader.read_pack(reader.count() - 1).expect("unchanged");
        assert_eq!(Digest::of(&last), manifest.packs[reader.count() - 1].digest);
    }
}
