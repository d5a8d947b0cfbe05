//! A configuration text as a tree whose every value and key knows its place, whatever language it is written in.

use std::ops::Range;

/// One value and the bytes it stands on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    /// Bytes from the first of the value to the one after its last.
    pub(super) range: Range<usize>,
    /// What it is.
    pub(super) content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Nothing; a key with this value counts as absent.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A number, as written.
    Number(String),
    /// A string, escapes resolved.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// Keys and values, in the order of the text.
    Object(Vec<Entry>),
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// The bytes of the key, quotes included.
    pub(super) range: Range<usize>,
    /// The value.
    pub(super) value: Tree,
}

/// Why a text is no tree, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SyntaxError {
    /// The bytes in question.
    pub(super) range: Range<usize>,
    /// What is wrong.
    pub(super) problem: String,
    /// What to do about it.
    pub(super) help: Option<String>,
}

/// A file that has been read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its number among the files of this configuration.
    pub(super) file: usize,
    /// The text that ranges point into.
    pub(super) text: String,
    /// Its value.
    pub(super) tree: Tree,
}

impl Source {
    /// Line and column, both from 1, of a byte; columns count characters.
    pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
