//! Image files named by a text file or by a pattern, in POT's words for data without labels.

use super::{DatasetError, images};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A list larger than this is no list.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// A file's name as the list or the folder gives it, and where it lies.
pub(super) type Named = (String, PathBuf);

/// The files of a `.txt` list or of a pattern whose last part holds `*` or `?`.
pub(super) fn read(source: &Path) -> Result<Vec<Named>, DatasetError> {
    let is_list = source.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"));
    let named = if is_list { of_list(source)? } else { of_pattern(source)? };
    if named.is_empty() {
        return Err(DatasetError::content(source, "it names no image (png, jpg, jpeg, bmp)"));
    }
    Ok(named)
}

/// One file a line, relative to the list's own folder.
fn of_list(list: &Path) -> Result<Vec<Named>, DatasetError> {
    let length = fs::metadata(list).map_err(DatasetError::read(list))?.len();
    if length > LIST_BYTES_MAX {
        return Err(DatasetError::content(list, format!("it is larger than {LIST_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(list).map_err(DatasetError::read(list))?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let path = folder.join(line);
        if !path.is_file() {
            let problem = format!("there is no file {}", path.display());
            return Err(DatasetError::Line { path: list.to_owned(), line: index + 1, problem });
        }
        names.push((line.to_owned(), path));
    }
    Ok(names)
}

/// The images of one folder whose names fit the pattern, sorted by name.
fn of_pattern(pattern: &Path) -> Result<Vec<Named>, DatasetError> {
    let folder = pattern.parent().unwrap_or(Path::new(""));
    let wild = |text: &str| text.contains(['*', '?']);
    if folder.components().any(|part| matches!(part, Component::Normal(name) if wild(&name.to_string_lossy()))) {
        return Err(DatasetError::content(pattern, "only the last part of a pattern may hold * or ?"));
    }
    let last = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = images::flat(listed)?.names.into_iter().filter(|name| fits(name.as_bytes(), last.as_bytes()));
    Ok(names.map(|name| (name.clone(), folder.join(name))).collect())
}

/// Whether a name fits a pattern: `*` stands for any bytes, `?` for one.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    // Where a star was met, and how far the name was then: the last star is the only one worth widening.
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(next) {
            Some(b'*') => {
                star = Some((next, at));
                next += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at] => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((place, begun)) => {
                    star = Some((place, begun + 1));
                    at = begun + 1;
                    next = place + 1;
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_bytes_and_question_marks_for_one() {
        for (name, pattern, expected) in [
            ("a.png", "*", true),
            ("a.png", "*.png", true),
            ("a.png", "?.png", true),
            ("ab.png", "?.png", false),
            ("aXbXc", "a*X*c", true),
            ("aXbXd", "a*X*c", false),
            ("", "*", true),
            ("a", "", false),
        ] {
            assert_eq!(fits(name.as_bytes(), pattern.as_bytes()), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn lists_and_patterns_name_files_and_mistakes_name_their_line() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.png", "a.png", "c.jpg", "d.txt"] {
            fs::write(folder.path().join(name), b"x").expect("written");
        }
        let short = |named: Vec<Named>| -> Vec<String> {
            assert!(named.iter().all(|(name, path)| path.is_file() && path.ends_with(name)));
            named.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(short(read(&folder.path().join("*.png")).expect("two")), ["a.png", "b.png"]);
        let list = folder.path().join("list.txt");
        fs::write(&list, "c.jpg\n\n a.png \n").expect("written");
        assert_eq!(short(read(&list).expect("two")), ["c.jpg", "a.png"]);
        fs::write(&list, "c.jpg\nnone.png\n").expect("written");
        assert!(matches!(read(&list), Err(DatasetError::Line { line: 2, .. })));
        assert!(read(&folder.path().join("*.bmp")).is_err());
        assert!(read(&folder.path().join("*/a.png")).is_err());
    }
}
