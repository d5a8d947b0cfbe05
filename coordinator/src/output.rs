//! Writing results so that a file is either the old one or the new one, whole, whatever happens in between.
//!
//! Never here: what the files contain.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the machine-readable report.
pub const REPORT_JSON: &str = "report.json";
/// Name of the page for people.
pub const REPORT_HTML: &str = "report.html";

/// A result could not be written; what stood there before is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct OutputError {
    /// What failed.
    action: &'static str,
    /// Where.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// A directory results are written to.
#[derive(Clone, Debug)]
pub struct OutputDir {
    path: PathBuf,
}

impl OutputDir {
    /// Creates the directory with its parents, and shows that it can be written to before hours are spent.
    pub fn create(path: &Path) -> Result<OutputDir, OutputError> {
        let refuse = |action| move |source| OutputError { action, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(refuse("create the output directory"))?;
        tempfile::Builder::new().prefix(".holdfast-").tempfile_in(path).map_err(refuse("write to"))?;
        Ok(OutputDir { path: path.to_owned() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of this name: to a temporary one beside it, made durable, then renamed over whatever was there.
    ///
    /// After an error the old file, or its absence, is as before, and no temporary file is left.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, OutputError> {
        self.write_with(name, |file| file.write_all(bytes))
    }

    /// The same for content that is produced piece by piece.
    pub fn write_with(
        &self,
        name: &str,
        produce: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<PathBuf, OutputError> {
        let path = self.path.join(name);
        let refuse = |action| {
            let path = path.clone();
            move |source| OutputError { action, path, source }
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".holdfast-").suffix(".part");
        // Results are for others to read; the temporary file's default is its owner alone. The umask still applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut temporary = builder.tempfile_in(&self.path).map_err(refuse("create a temporary file for"))?;
        produce(temporary.as_file_mut()).map_err(refuse("write"))?;
        temporary.as_file().sync_all().map_err(refuse("make durable"))?;
        temporary.persist(&path).map_err(|error| refuse("rename to")(error.error))?;
        let directory = File::open(&self.path).and_then(|directory| directory.sync_all());
        directory.map_err(refuse("make durable the name of"))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_replaces_the_one_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let output = OutputDir::create(&directory.path().join("a/b")).expect("created");
        output.write(REPORT_JSON, b"one").expect("written");
        let path = output.write(REPORT_JSON, b"two").expect("written");
        assert_eq!(fs::read(path).expect("readable"), b"two");
        assert_eq!(names(output.path()), [REPORT_JSON]);
    }

    #[test]
    fn an_error_halfway_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let output = OutputDir::create(directory.path()).expect("created");
        output.write("model.onnx", b"old").expect("written");
        let error = output.write_with("model.onnx", |file| {
            file.write_all(b"half of the n")?;
            Err(std::io::Error::other("disk full"))
        });
        assert_eq!(error.expect_err("refused").source.to_string(), "disk full");
        assert_eq!(fs::read(directory.path().join("model.onnx")).expect("readable"), b"old");
        assert_eq!(names(directory.path()), ["model.onnx"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_at_once_and_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("taken");
        fs::write(&file, b"").expect("written");
        let error = OutputDir::create(&file).expect_err("a file is no directory").to_string();
        assert!(error.starts_with("cannot create the output directory") && error.ends_with("taken"), "{error}");
    }
}
