//! Tensors whose values lie in files beside the model; who reads them is the caller's business, where they may lie is ours.

use super::schema::TensorProto;

/// Reads files that a model refers to.
pub trait ExternalData {
    /// Reads `length` bytes (to the end of the file where absent) from `offset` of the file `location`, which is a
    /// relative path with `/` separators and without `..`, to be resolved against the model's own folder.
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, ExternalDataError>;
}

/// For models that are complete in one file: every reference is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn read(&self, _location: &str, _offset: u64, _length: Option<u64>) -> Result<Vec<u8>, ExternalDataError> {
        Err(ExternalDataError::Unavailable { reason: "only the model file itself was given".to_owned() })
    }
}

/// Why an external tensor could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ExternalDataError {
    /// The entry has no location.
    #[error("the entry names no `location`")]
    NoLocation,
    /// The location leaves the model's folder.
    #[error("the location is not a relative path below the model's folder; move the file beside the model")]
    UnsafeLocation,
    /// An offset or length is no number.
    #[error("`{key}` is `{value}`, which is not a byte count")]
    NotANumber {
        /// `offset` or `length`.
        key: &'static str,
        /// What stands there.
        value: String,
    },
    /// Fewer bytes than asked for.
    #[error("expected {expected} bytes, the file holds {found}")]
    Short {
        /// Bytes asked for.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The reader has no such file.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The file could not be read.
    #[error("the file could not be read")]
    Io(#[from] std::io::Error),
}

/// The location of an external tensor, and what is read there.
///
/// `expected_bytes` is what shape and element type ask for; a longer `length` in the file is refused by the caller's check
/// of the data's size.
pub(crate) fn read_external(
    tensor: &TensorProto,
    expected_bytes: u64,
    external: &dyn ExternalData,
) -> Result<Vec<u8>, (String, ExternalDataError)> {
    let entry = |key: &str| {
        tensor
            .external_data
            .iter()
            .find(|entry| entry.key.as_deref() == Some(key))
            .and_then(|entry| entry.value.as_deref())
    };
    let location = entry("location").unwrap_or_default();
    let fail = |error: ExternalDataError| (location.to_owned(), error);
    if location.is_empty() {
        return Err(fail(ExternalDataError::NoLocation));
    }
    if !is_safe_location(location) {
        return Err(fail(ExternalDataError::UnsafeLocation));
    }
    let number = |key: &'static str| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| ExternalDataError::NotANumber { key, value: text.to_owned() })
        }
    };
    let offset = number("offset").map_err(fail)?.unwrap_or(0);
    let length = number("length").map_err(fail)?;
    if let Some(length) = length.filter(|length| *length != expected_bytes) {
        return Err(fail(ExternalDataError::Short { expected: expected_bytes, found: length }));
    }
    let bytes = external.read(location, offset, Some(expected_bytes)).map_err(fail)?;
    if bytes.len() as u64 != expected_bytes {
        return Err(fail(ExternalDataError::Short { expected: expected_bytes, found: bytes.len() as u64 }));
    }
    Ok(bytes)
}

/// Relative, downwards only, and the same on every platform: no drive letters, no backslashes, no NUL.
fn is_safe_location(location: &str) -> bool {
    !location.starts_with('/') && !location.contains(['\\', '\0', ':']) && location.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_outside_the_models_folder_are_refused() {
        for location in ["/etc/passwd", "../a", "a/../../b", "a\\..\\b", "C:/a", "a/.."] {
            assert!(!is_safe_location(location), "{location}");
        }
        for location in ["weights.bin", "data/w.0", "./w", "a..b"] {
            assert!(is_safe_location(location), "{location}");
        }
    }
}
