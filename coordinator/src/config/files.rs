//! Reading the texts a configuration consists of.

use super::ConfigError;
use super::document::Node;
use super::tree::{Source, SyntaxError, Tree};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A configuration larger than this is no configuration.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// How a file is parsed, by its name.
pub(super) type Parse = fn(&str) -> Result<Tree, SyntaxError>;

/// The parser that the extension asks for; `None`: no language of ours.
pub(super) fn parser(path: &Path) -> Option<Parse> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Some(super::json::parse),
        Some("yml" | "yaml") => Some(super::yaml::parse),
        _ => None,
    }
}

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let refuse = |problem: String| ConfigError::Read { path: path.to_owned(), problem };
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(refuse(format!("it is larger than {CONFIG_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| refuse(format!("it is not UTF-8 text: {error}")))
}

/// A file that another one names.
pub(super) struct Beside {
    /// Its content.
    pub(super) source: Source,
    /// The directory it lies in.
    pub(super) directory: PathBuf,
}

/// Reads the file a node names, relative to `directory`; what is wrong with it is said at the node.
pub(super) fn read_beside(node: &Node<'_>, directory: &Path, parse: Parse) -> Option<Beside> {
    let path = directory.join(node.string()?);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) => {
            node.refuse("names a file that is of no use", Some(&error.to_string()));
            return None;
        }
    };
    let source = node.findings().parse(&path.display().to_string(), &text, parse)?;
    Some(Beside { source, directory: path.parent().unwrap_or(Path::new("")).to_owned() })
}
