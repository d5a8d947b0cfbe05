//! Label files and class lists: text a person wrote, so every refusal names the line.

use super::images::is_image_name;
use super::{DatasetError, MAX_SAMPLES};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

/// Bytes a text file may have.
const MAX_TEXT_BYTES: u64 = 1 << 30;

pub(super) fn read_text(path: &Path) -> Result<String, DatasetError> {
    let mut text = String::new();
    let file = File::open(path).map_err(DatasetError::read(path))?;
    let bytes = file.take(MAX_TEXT_BYTES).read_to_string(&mut text).map_err(DatasetError::read(path))?;
    if bytes as u64 == MAX_TEXT_BYTES {
        return Err(DatasetError::content(
            path,
            format!("it is longer than {MAX_TEXT_BYTES} bytes; is it a text file?"),
        ));
    }
    Ok(text)
}

/// Lines that say something, counted from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Texts, one a line, in sample order; an empty line is an empty text.
pub(super) fn read_texts(path: &Path, samples: usize) -> Result<Vec<String>, DatasetError> {
    let text = read_text(path)?;
    let texts: Vec<String> = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::to_owned).collect();
    if texts.len() != samples {
        let problem = format!("it holds {} lines, but there are {samples} samples", texts.len());
        return Err(DatasetError::content(path, problem));
    }
    Ok(texts)
}

/// Files, relative to the image folder, and what they say, in the order of the lines: `file text`, cut at the first tab,
/// or at the first blank where there is none.
pub(super) fn read_file_texts(path: &Path, folder: &Path) -> Result<(Vec<String>, Vec<String>), DatasetError> {
    let text = read_text(path)?;
    let (mut files, mut texts) = (Vec::new(), Vec::new());
    for (line, content) in lines(&text) {
        let refuse = |problem: String| DatasetError::Line { path: path.to_owned(), line, problem };
        let cut = content.split_once('\t').or_else(|| content.split_once(' ')).unwrap_or((content, ""));
        check_file(cut.0, folder).map_err(refuse)?;
        if files.len() == MAX_SAMPLES {
            return Err(refuse(format!("more than {MAX_SAMPLES} samples")));
        }
        files.push(cut.0.to_owned());
        texts.push(cut.1.trim_start().to_owned());
    }
    if files.is_empty() {
        return Err(DatasetError::content(path, "it holds no lines `file text`"));
    }
    Ok((files, texts))
}

/// Class names, one a line, the first being class 0.
pub(super) fn read_classes(path: &Path) -> Result<Vec<String>, DatasetError> {
    let classes: Vec<String> = lines(&read_text(path)?).map(|(_, line)| line.to_owned()).collect();
    if classes.is_empty() {
        return Err(DatasetError::content(path, "it holds no class names; write one a line"));
    }
    Ok(classes)
}

/// Files, relative to the image folder, and their labels, in the order of the lines.
///
/// A line reads `file label` or `file,label`; file names may hold blanks. The first line of comma-separated text may be a
/// header.
pub(super) fn read_labels(path: &Path, folder: &Path) -> Result<(Vec<String>, Vec<u32>), DatasetError> {
    let text = read_text(path)?;
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    let mut first_lines: BTreeMap<String, usize> = BTreeMap::new();
    for (position, (line, content)) in lines(&text).enumerate() {
        let refuse = |problem: String| DatasetError::Line { path: path.to_owned(), line, problem };
        let Some((file, label)) = split(content) else {
            return Err(refuse(format!("`{content}` has no label; write `file label`")));
        };
        let Ok(label) = label.parse::<u32>() else {
            if position == 0 && content.contains(',') {
                continue;
            }
            return Err(refuse(format!("the label `{label}` is no class index; write a whole number from 0")));
        };
        check_file(file, folder).map_err(refuse)?;
        if let Some(earlier) = first_lines.insert(file.to_owned(), line) {
            return Err(refuse(format!("`{file}` stands in line {earlier} already")));
        }
        if files.len() == MAX_SAMPLES {
            return Err(refuse(format!("more than {MAX_SAMPLES} samples")));
        }
        files.push(file.to_owned());
        labels.push(label);
    }
    if files.is_empty() {
        return Err(DatasetError::content(path, "it holds no lines `file label`"));
    }
    Ok((files, labels))
}

/// A line's file and label: cut at the last comma, or at the last blank where there is none.
fn split(line: &str) -> Option<(&str, &str)> {
    let (file, label) = line.rsplit_once(',').or_else(|| line.rsplit_once(char::is_whitespace))?;
    Some((unquoted(file), unquoted(label)))
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A label file may name images below its folder only.
fn check_file(file: &str, folder: &Path) -> Result<(), String> {
    if file.is_empty() || !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!(
            "`{file}` does not lie below {}; write a path relative to it, without `..`",
            folder.display()
        ));
    }
    if !is_image_name(file) {
        return Err(format!("`{file}` is no image file; png, jpg, jpeg and bmp are read"));
    }
    match fs::metadata(folder.join(file)) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(format!("`{file}` is no file")),
        Err(error) => Err(format!("`{file}` cannot be found in {}: {error}", folder.display())),
    }
}
