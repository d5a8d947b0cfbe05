//! Image files of a folder, in the order everybody else counts them.

use super::{DatasetError, Listing};
use holdfast_common::dataset::Annotation;
use std::fs;
use std::path::Path;

/// File name extensions of images, in any case.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// Whether a file name has the extension of an image.
pub(super) fn is_image_name(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Images directly in a folder, sorted by name, without labels.
pub(super) fn flat(folder: &Path) -> Result<Listing, DatasetError> {
    let names = entries(folder, Kind::Image)?;
    let labels = vec![Annotation::None; names.len()];
    Ok(Listing { names, labels, classes: Vec::new() })
}

/// Images in sub-folders: classes are the sorted names of the sub-folders, files are sorted within them, as in
/// torchvision's `ImageFolder`.
pub(super) fn by_class(folder: &Path) -> Result<Listing, DatasetError> {
    let classes = entries(folder, Kind::Folder)?;
    if classes.is_empty() {
        let problem = "it holds neither images (png, jpg, jpeg, bmp) nor sub-folders of images";
        return Err(DatasetError::content(folder, problem));
    }
    let (mut names, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        let path = folder.join(class);
        let files = entries(&path, Kind::Image)?;
        if files.is_empty() {
            let problem = "it stands for a class but holds no images (png, jpg, jpeg, bmp); fill or remove it";
            return Err(DatasetError::content(&path, problem));
        }
        labels.extend(files.iter().map(|_| Annotation::Label(label as u32)));
        names.extend(files.iter().map(|file| format!("{class}/{file}")));
    }
    Ok(Listing { names, labels, classes })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Image,
    Folder,
}

/// Sorted names of a folder's visible entries of one kind. Links are followed once; the walk never goes deeper than
/// classes, so links in a circle end.
fn entries(folder: &Path, kind: Kind) -> Result<Vec<String>, DatasetError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DatasetError::read(folder))? {
        let entry = entry.map_err(DatasetError::read(folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(DatasetError::content(&entry.path(), "its name is not valid UTF-8; rename it"));
        };
        if name.starts_with('.') || (kind == Kind::Image && !is_image_name(name)) {
            continue;
        }
        let path = entry.path();
        let is_folder = fs::metadata(&path).map_err(DatasetError::read(&path))?.is_dir();
        if is_folder == (kind == Kind::Folder) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
