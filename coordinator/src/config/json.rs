//! JSON with `//` and `/* */` comments and trailing commas, as POT accepts it, to a [`Tree`].

use super::tree::{Content, Entry, SyntaxError, Tree};
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};

/// Comments and trailing commas; nothing else departs from JSON.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// Parses a text; the parser bounds how deep values may nest.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &options()).map_err(|error| {
        let range = error.range();
        SyntaxError { range: range.start..range.end, problem: lower_first(&error.kind().to_string()), help: None }
    })?;
    match parsed.value {
        Some(value) => Ok(tree(&value)),
        None => Err(SyntaxError { range: 0..0, problem: "the file is empty".to_owned(), help: None }),
    }
}

fn tree(value: &Value<'_>) -> Tree {
    let range = value.range();
    let content = match value {
        Value::NullKeyword(_) => Content::Null,
        Value::BooleanLit(literal) => Content::Boolean(literal.value),
        Value::NumberLit(literal) => Content::Number(literal.value.to_owned()),
        Value::StringLit(literal) => Content::Text(literal.value.to_string()),
        Value::Array(array) => Content::List(array.elements.iter().map(tree).collect()),
        Value::Object(object) => {
            let entry = |property: &jsonc_parser::ast::ObjectProp<'_>| {
                let key = property.name.range();
                Entry {
                    key: property.name.as_str().to_owned(),
                    range: key.start..key.end,
                    value: tree(&property.value),
                }
            };
            Content::Object(object.properties.iter().map(entry).collect())
        }
    };
    Tree { range: range.start..range.end, content }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
