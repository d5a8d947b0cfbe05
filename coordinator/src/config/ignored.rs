//! The `ignored` parameter: operations that stay float, by name, or by type in ONNX's or OpenVINO's words.

use super::document::Node;
use super::keys::{IGNORED, IGNORED_OPERATION};
use holdfast_core::parameters::{Ignored, IgnoredOperation};
use holdfast_core::quantize::ignored::operator_types;

/// Reads `ignored`.
pub(super) fn read_ignored(node: &Node<'_>) -> Option<Ignored> {
    let object = node.section(&IGNORED)?;
    let skip_model = object.or("skip_model", false, Node::boolean);
    let scope = object.or("scope", Vec::new(), Node::strings);
    let operations = object.or("operations", Vec::new(), |node| {
        let read: Vec<Option<IgnoredOperation>> = node.array()?.iter().map(read_operation).collect();
        read.into_iter().collect()
    });
    Some(Ignored { skip_model: skip_model?, scope: scope?, operations: operations? })
}

fn read_operation(node: &Node<'_>) -> Option<IgnoredOperation> {
    let object = node.section(&IGNORED_OPERATION)?;
    let attributes = object.or("attributes", Vec::new(), |node| Some(node.object()?.entries()));
    let operator = object.required("type").and_then(|node| {
        let word = node.string()?;
        if operator_types().any(|known| known == word) {
            return Some(word);
        }
        let known: Vec<&str> = operator_types().collect();
        node.refuse_word(&word, "is no operator type that can be ignored", &known);
        None
    });
    let attributes = attributes?.into_iter().map(|(name, node)| (name, node.json())).collect();
    Some(IgnoredOperation { operator: operator?, attributes })
}
