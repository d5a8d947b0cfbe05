//! Reading a model with the files its large tensors live in.

use super::RunError;
use holdfast_common::model::Model;
use holdfast_common::onnx::{ExternalData, ExternalDataError, MODEL_BYTES_MAX};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Tensors stored beside the model file.
struct Beside {
    directory: PathBuf,
}

impl ExternalData for Beside {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, ExternalDataError> {
        let path = self.directory.join(location);
        let refuse = |error: std::io::Error| ExternalDataError::Unavailable { reason: error.to_string() };
        let mut file = File::open(path).map_err(refuse)?;
        file.seek(SeekFrom::Start(offset)).map_err(refuse)?;
        let mut bytes = Vec::new();
        file.take(length.unwrap_or(MODEL_BYTES_MAX).min(MODEL_BYTES_MAX)).read_to_end(&mut bytes).map_err(refuse)?;
        Ok(bytes)
    }
}

/// Loads a model and brings it into normal form.
pub fn load_model(path: &Path) -> Result<Model, RunError> {
    let bytes = std::fs::read(path).map_err(|source| RunError::Read { path: path.to_owned(), source })?;
    let directory = path.parent().unwrap_or(Path::new("")).to_owned();
    Model::load(&bytes, &Beside { directory }).map_err(|source| RunError::Model { path: path.to_owned(), source })
}
