//! From the user's files to a manifest and a reader of packs: nothing is copied, packs are read again from the files.
//!
//! Whatever the user's files hold is checked here, once, and refused with the file, the line or the sample, and what to do.

#[cfg(test)]
mod annotation_tests;
mod archive;
mod coco;
mod dimensions;
mod images;
mod labels;
mod listed;
mod masks;
mod npy;
mod pack;
#[cfg(test)]
mod tests;
mod yolo;

pub use coco::CocoNumbering;
pub use npy::is_array_path;
pub use pack::PackReader;

use holdfast_common::dataset::{Annotation, Field, FieldEncoding, Manifest, ManifestError, SampleEntry, Truth};
use npy::{ArrayFile, RowKind};
use pack::Content;
use std::io;
use std::path::{Path, PathBuf};

/// Samples a data set may have.
pub const MAX_SAMPLES: usize = 16_000_000;

/// A data set as the user describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetRequest {
    /// Name for people.
    pub name: String,
    /// Where the samples are.
    pub samples: SampleSource,
    /// Where their annotations are.
    pub labels: LabelSource,
    /// A text file with one class name a line, where there is one.
    pub classes: Option<PathBuf>,
    /// Which of the samples are used.
    pub subset: Subset,
}

/// Where samples are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleSource {
    /// A folder of PNG, JPEG or BMP files; they feed one input.
    Images {
        /// The folder.
        folder: PathBuf,
        /// The field's name: that of the model input.
        field: String,
    },
    /// PNG, JPEG or BMP files without labels, named one a line by a `.txt` file, or by a pattern with `*` or `?`.
    Listed {
        /// The text file or the pattern.
        source: PathBuf,
        /// The field's name: that of the model input.
        field: String,
    },
    /// `.npy` files, or arrays of `.npz` archives, whose first axis counts the samples, each with the field (model input)
    /// it feeds. `file.npz` stands for its array of the field's name, or its only one; `file.npz:name` for any.
    Arrays(Vec<(String, PathBuf)>),
}

/// Where annotations are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelSource {
    /// The names of the folder's sub-folders are the classes, where images lie in sub-folders; otherwise there are no labels.
    Inferred,
    /// The names of the folder's sub-folders are the classes, in order of their names.
    Folders,
    /// A text file of lines `file label` or `file,label`, in sample order; files are relative to the image folder.
    File(PathBuf),
    /// An array in sample order. Integers are class labels and floats target values, unless `truth` says otherwise: a row
    /// of 0 and 1, one a class (`Labels`), of token ids (`Tokens`), or a class map (`Mask`).
    Array {
        /// The `.npy` file, or the array of an archive.
        path: PathBuf,
        /// What the rows stand for.
        truth: Truth,
    },
    /// A folder of PNG class maps, each with the stem of its image.
    Masks(PathBuf),
    /// A text file: of images lines `file text` that also give the order; of arrays one line a sample.
    Texts(PathBuf),
    /// A COCO `instances` file with the boxes of all images of the folder.
    Coco {
        /// The JSON file.
        file: PathBuf,
        /// How the model counts its categories.
        numbering: CocoNumbering,
    },
    /// YOLO label files in this folder; `None`: where the images' path says `images`, but in `labels`.
    Yolo(Option<PathBuf>),
    /// There are none, even if the images lie in sub-folders.
    None,
}

/// Which samples of those there are.
#[derive(Clone, Debug, PartialEq)]
pub enum Subset {
    /// All of them.
    All,
    /// The first so many, or all if there are fewer.
    First(usize),
    /// The first so many hundredths (a share above 0, at most 1), at least one sample.
    Share(f64),
    /// Those at these positions, in this order.
    Positions(Vec<u32>),
}

/// The user's data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or folder holds something else than expected.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// A line of a text file is wrong.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// One sample is wrong.
    #[error("sample `{sample}`: {problem}")]
    Sample {
        /// Which.
        sample: String,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// The request contradicts itself or the data.
    #[error("data set `{dataset}`: {problem}")]
    Request {
        /// Name of the data set.
        dataset: String,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// The finished manifest is not sound.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl DatasetError {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
        move |source| DatasetError::Read { path: path.to_owned(), source }
    }

    fn content(path: &Path, problem: impl Into<String>) -> DatasetError {
        DatasetError::Content { path: path.to_owned(), problem: problem.into() }
    }
}

/// Samples as found, before their bytes are looked at.
struct Found {
    fields: Vec<Field>,
    classes: Vec<String>,
    names: Vec<String>,
    annotations: Vec<Annotation>,
    content: Content,
}

/// Lists the samples, reads and digests every byte of them, on several threads, and builds the manifest.
///
/// `progress` is told how many packs are done, and of how many, from any thread and in any order of counts.
///
/// # Errors
///
/// [`DatasetError`]: the first thing wrong, in sample order.
pub fn scan(
    request: &DatasetRequest,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Manifest, PackReader), DatasetError> {
    let mut found = find(request)?;
    found.select(request)?;
    let refuse = |problem: String| DatasetError::Request { dataset: request.name.clone(), problem };
    if found.names.is_empty() || found.names.len() > MAX_SAMPLES {
        return Err(refuse(format!("it has {} samples; 1 to {MAX_SAMPLES} are possible", found.names.len())));
    }
    let Found { fields, classes, names, annotations, content } = found;
    let packs = pack::digest_all(&content, &fields, &names, progress)?;
    let lengths = packs.iter().flat_map(|pack| pack.field_bytes.iter().cloned());
    let samples = names
        .into_iter()
        .zip(annotations)
        .zip(lengths)
        .map(|((name, annotation), field_bytes)| SampleEntry { name, field_bytes, annotation })
        .collect();
    let packs = packs.into_iter().map(|pack| pack.pack).collect();
    let manifest = Manifest { name: request.name.clone(), fields, classes, samples, packs };
    manifest.validate()?;
    let reader = PackReader::new(content, &manifest);
    Ok((manifest, reader))
}

fn find(request: &DatasetRequest) -> Result<Found, DatasetError> {
    let classes = request.classes.as_deref().map(labels::read_classes).transpose()?.unwrap_or_default();
    match &request.samples {
        SampleSource::Images { folder, field } => {
            let fields = vec![Field { name: field.clone(), encoding: FieldEncoding::Image }];
            let listing = list_images(folder, &request.labels)?;
            let paths = listing.names.iter().map(|name| folder.join(name)).collect();
            let annotations = match &request.labels {
                LabelSource::Array { path, truth } => annotations_of_array(path, *truth, listing.names.len())?,
                _ => listing.labels,
            };
            let classes = if classes.is_empty() { listing.classes } else { classes };
            Ok(Found { fields, classes, names: listing.names, annotations, content: Content::Files(paths) })
        }
        SampleSource::Listed { source, field } => {
            let fields = vec![Field { name: field.clone(), encoding: FieldEncoding::Image }];
            let (names, paths): (Vec<String>, Vec<PathBuf>) = listed::read(source)?.into_iter().unzip();
            let annotations = vec![Annotation::None; names.len()];
            Ok(Found { fields, classes, names, annotations, content: Content::Files(paths) })
        }
        SampleSource::Arrays(arrays) => {
            let (fields, content, count) = open_arrays(&request.name, arrays)?;
            let annotations = match &request.labels {
                LabelSource::Array { path, truth } => annotations_of_array(path, *truth, count)?,
                LabelSource::Texts(path) => {
                    labels::read_texts(path, count)?.into_iter().map(Annotation::Text).collect()
                }
                LabelSource::None | LabelSource::Inferred => vec![Annotation::None; count],
                LabelSource::File(_)
                | LabelSource::Folders
                | LabelSource::Coco { .. }
                | LabelSource::Yolo(_)
                | LabelSource::Masks(_) => {
                    let problem = "labels of arrays are given as another .npy array".to_owned();
                    return Err(DatasetError::Request { dataset: request.name.clone(), problem });
                }
            };
            let file = arrays.first().and_then(|(_, path)| path.file_name()).unwrap_or_default().to_string_lossy();
            let names = (0..count).map(|index| format!("{file}[{index}]")).collect();
            Ok(Found { fields, classes, names, annotations, content })
        }
    }
}

/// Image files relative to their folder, in sample order.
struct Listing {
    names: Vec<String>,
    labels: Vec<Annotation>,
    classes: Vec<String>,
}

fn list_images(folder: &Path, labels: &LabelSource) -> Result<Listing, DatasetError> {
    match labels {
        LabelSource::File(path) => {
            let (names, labels) = labels::read_labels(path, folder)?;
            Ok(Listing { names, labels: labels.into_iter().map(Annotation::Label).collect(), classes: Vec::new() })
        }
        LabelSource::Folders => images::by_class(folder),
        LabelSource::Coco { file, numbering } => coco::read(folder, file, *numbering),
        LabelSource::Yolo(labels) => yolo::read(folder, labels.as_deref()),
        LabelSource::Masks(masks) => masks::read(folder, masks),
        LabelSource::Texts(path) => {
            let (names, texts) = labels::read_file_texts(path, folder)?;
            Ok(Listing { names, labels: texts.into_iter().map(Annotation::Text).collect(), classes: Vec::new() })
        }
        LabelSource::Inferred | LabelSource::None | LabelSource::Array { .. } => {
            let flat = images::flat(folder)?;
            if flat.names.is_empty() {
                let mut classed = images::by_class(folder)?;
                if *labels == LabelSource::None {
                    classed.labels.fill(Annotation::None);
                    classed.classes.clear();
                }
                return Ok(classed);
            }
            Ok(flat)
        }
    }
}

fn open_arrays(dataset: &str, arrays: &[(String, PathBuf)]) -> Result<(Vec<Field>, Content, usize), DatasetError> {
    let refuse = |problem: String| DatasetError::Request { dataset: dataset.to_owned(), problem };
    let mut files = Vec::with_capacity(arrays.len());
    let mut fields = Vec::with_capacity(arrays.len());
    for (name, path) in arrays {
        let file = ArrayFile::open(path, name)?;
        let encoding = FieldEncoding::Array { element: file.element(), shape: file.row_shape().to_vec() };
        fields.push(Field { name: name.clone(), encoding });
        files.push(file);
    }
    let count = files.first().ok_or_else(|| refuse("it names no array".to_owned()))?.rows();
    for (file, (_, path)) in files.iter().zip(arrays) {
        if file.rows() != count {
            let (found, first) = (file.rows(), arrays[0].1.display());
            return Err(DatasetError::content(path, format!("it holds {found} samples, but {first} holds {count}")));
        }
    }
    if count > MAX_SAMPLES {
        return Err(refuse(format!("it has {count} samples; at most {MAX_SAMPLES} are possible")));
    }
    let rows = (0..count as u64).collect();
    Ok((fields, Content::Rows { files, rows }, count))
}

fn annotations_of_array(path: &Path, truth: Truth, samples: usize) -> Result<Vec<Annotation>, DatasetError> {
    let Some(kind) = RowKind::of(truth) else {
        let problem = format!("{} are not read from arrays", truth.name());
        return Err(DatasetError::content(path, problem));
    };
    let file = ArrayFile::open(path, "labels")?;
    if file.rows() != samples {
        let problem = format!("it holds {} annotations, but there are {samples} samples", file.rows());
        return Err(DatasetError::content(path, problem));
    }
    file.annotations(kind)
}

impl Found {
    fn select(&mut self, request: &DatasetRequest) -> Result<(), DatasetError> {
        let count = self.names.len();
        let refuse = |problem: String| DatasetError::Request { dataset: request.name.clone(), problem };
        let first = match &request.subset {
            Subset::All => count,
            Subset::First(0) => return Err(refuse("a subset of 0 samples; at least 1 is needed".to_owned())),
            Subset::First(first) => *first,
            Subset::Share(share) if *share > 0.0 && *share <= 1.0 => ((count as f64 * share) as usize).max(1),
            Subset::Share(share) => {
                return Err(refuse(format!("a share of {share}; it must be above 0 and at most 1")));
            }
            Subset::Positions(positions) => return self.pick(positions).map_err(refuse),
        };
        self.names.truncate(first);
        self.annotations.truncate(first);
        self.content.truncate(first);
        Ok(())
    }

    fn pick(&mut self, positions: &[u32]) -> Result<(), String> {
        let count = self.names.len();
        let mut seen = vec![false; count];
        for &position in positions {
            match seen.get_mut(position as usize) {
                None => return Err(format!("the subset names position {position}, but there are {count} samples")),
                Some(true) => return Err(format!("the subset names position {position} twice")),
                Some(seen) => *seen = true,
            }
        }
        let pick = positions.iter().map(|&position| position as usize);
        self.names = pick.clone().map(|at| self.names[at].clone()).collect();
        self.annotations = pick.clone().map(|at| self.annotations[at].clone()).collect();
        self.content.pick(pick);
        Ok(())
    }
}
