//! Reading a commented JSON text key by key: every key remembers where it stands, and every mistake is collected.
//!
//! The text is parsed to a syntax tree and read straight from it, so that type errors, unknown keys and mistakes found
//! by comparing two keys all point at their place in the source, and one run reports all of them.

use super::problem::Problem;
use jsonc_parser::ast::Value;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions};
use std::cell::RefCell;

/// `//` and `/* */` comments and trailing commas are what POT accepts; nothing else departs from JSON.
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

/// Collects what is wrong and what deserves a warning while a text is read.
pub(super) struct Context<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'t> Context<'t> {
    pub(super) fn new(text: &'t str) -> Context<'t> {
        Context { text, problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// The syntax tree, if the text is well formed and no object names a key twice.
    pub(super) fn parse(&self) -> Option<Value<'t>> {
        let parsed = match jsonc_parser::parse_to_ast(self.text, &CollectOptions::default(), &options()) {
            Ok(parsed) => parsed.value,
            Err(error) => {
                self.problem(error.range(), lower_first(&error.kind().to_string()), None);
                return None;
            }
        };
        let Some(value) = parsed else {
            self.problem(Range::new(0, 0), "the file is empty".to_owned(), None);
            return None;
        };
        self.refuse_duplicates(&value, "");
        Some(value)
    }

    fn refuse_duplicates(&self, value: &Value<'_>, path: &str) {
        match value {
            Value::Object(object) => {
                let mut seen = std::collections::BTreeMap::new();
                for property in &object.properties {
                    let name = property.name.as_str();
                    let path = join(path, name);
                    let first = seen.entry(name.to_owned()).or_insert(property.range.start);
                    if *first != property.range.start {
                        let (line, _) = self.position(*first);
                        let key = Range::new(property.range.start, property.range.start + name.len() + 2);
                        let help = format!("the first one is in line {line}; remove one of them");
                        self.problem(key, format!("`{path}` is given twice"), Some(help));
                    }
                    self.refuse_duplicates(&property.value, &path);
                }
            }
            Value::Array(array) => {
                for (index, element) in array.elements.iter().enumerate() {
                    self.refuse_duplicates(element, &format!("{path}[{index}]"));
                }
            }
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
        }
    }

    /// The outermost value.
    pub(super) fn root<'d>(&'d self, value: &'d Value<'d>) -> Node<'d> {
        Node { context: self, value, path: String::new() }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn locate(&self, range: Range, message: String, help: Option<String>) -> Problem {
        let (line, column) = self.position(range.start);
        let span = (range.start, range.end.saturating_sub(range.start)).into();
        Problem { message, help, line, column, span }
    }

    fn problem(&self, range: Range, message: String, help: Option<String>) {
        push_once(&self.problems, self.locate(range, message, help));
    }

    /// Problems and warnings, each in the order of the text.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: RefCell<Vec<Problem>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|problem| (problem.line, problem.column));
            list
        };
        (sorted(self.problems), sorted(self.warnings))
    }
}

/// A section that serves two data sets is read twice, and its mistakes are still one.
fn push_once(list: &RefCell<Vec<Problem>>, problem: Problem) {
    let mut list = list.borrow_mut();
    if !list.contains(&problem) {
        list.push(problem);
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// One value of the text, with its path.
#[derive(Clone)]
pub(super) struct Node<'d> {
    context: &'d Context<'d>,
    value: &'d Value<'d>,
    path: String,
}

impl<'d> Node<'d> {
    /// Records that this value is wrong; `problem` follows the path.
    pub(super) fn refuse(&self, problem: &str, help: Option<&str>) {
        let message = format!("{} {problem}", self.place());
        self.context.problem(self.marked(), message, help.map(str::to_owned));
    }

    /// Records that the user should know something about this value.
    pub(super) fn warn(&self, remark: &str) {
        let message = format!("`{}` {remark}", self.path);
        push_once(&self.context.warnings, self.context.locate(self.marked(), message, None));
    }

    /// Records that this value asks for something this release cannot do.
    pub(super) fn unsupported(&self, instead: &str) {
        self.refuse(&format!("is not supported yet with the value {}", self.shown()), Some(instead));
    }

    /// Records that a word is none of those known.
    pub(super) fn refuse_word(&self, word: &str, problem: &str, known: &[&str]) {
        let help = nearest(word, known).unwrap_or_else(|| format!("known: {}", known.join(", ")));
        self.refuse(&format!("{problem}: \"{word}\""), Some(&help));
    }

    fn place(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) }
    }

    /// What to underline: a plain value whole, of an object or a list the opening bracket.
    fn marked(&self) -> Range {
        let range = self.value.range();
        match self.value {
            Value::Object(_) | Value::Array(_) => Range::new(range.start, range.start + 1),
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => range,
        }
    }

    fn expected(&self, what: &str) {
        self.refuse(&format!("should be {what}, but is {}", self.shown()), None);
    }

    fn shown(&self) -> String {
        match self.value {
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::NullKeyword(_) => "null".to_owned(),
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) => {
                let text = self.value.range().text(self.context.text);
                match text.char_indices().nth(60) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text.to_owned(),
                }
            }
        }
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self.value, Value::Object(_))
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.value, Value::Array(_))
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.value, Value::StringLit(_))
    }

    /// An object, whose keys are then asked for one by one.
    pub(super) fn object(&self) -> Option<Object<'d>> {
        if self.is_object() {
            return Some(Object { node: self.clone(), known: RefCell::default() });
        }
        self.expected("an object");
        None
    }

    /// The value under a key of an object, or at a position of a list; `None` where there is none.
    pub(super) fn child(&self, key: &str) -> Option<Node<'d>> {
        match self.value {
            Value::Object(_) => {
                self.object()?.entries().into_iter().find(|(name, _)| name == key).map(|(_, node)| node)
            }
            Value::Array(_) => self.array()?.into_iter().nth(key.parse().ok()?),
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => None,
        }
    }

    /// A list's elements.
    pub(super) fn array(&self) -> Option<Vec<Node<'d>>> {
        let Value::Array(array) = self.value else {
            self.expected("a list");
            return None;
        };
        let element = |(index, value)| Node { context: self.context, value, path: format!("{}[{index}]", self.path) };
        Some(array.elements.iter().enumerate().map(element).collect())
    }

    pub(super) fn string(&self) -> Option<String> {
        match self.value {
            Value::StringLit(literal) => Some(literal.value.to_string()),
            _ => {
                self.expected("a string");
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::BooleanLit(literal) => Some(literal.value),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        let parsed = match self.value {
            Value::NumberLit(literal) => literal.value.parse::<f64>().ok().filter(|number| number.is_finite()),
            _ => None,
        };
        if parsed.is_none() {
            self.expected("a finite number");
        }
        parsed
    }

    /// A whole number between two bounds, both allowed.
    pub(super) fn integer(&self, lowest: i64, highest: i64) -> Option<i64> {
        let parsed = match self.value {
            Value::NumberLit(literal) => literal.value.parse::<i64>().ok(),
            _ => None,
        };
        let allowed = parsed.filter(|number| (lowest..=highest).contains(number));
        if allowed.is_none() {
            self.expected(&if highest == i64::MAX {
                format!("a whole number, {lowest} or more")
            } else {
                format!("a whole number between {lowest} and {highest}")
            });
        }
        allowed
    }

    /// A count of things.
    pub(super) fn count(&self, lowest: i64) -> Option<usize> {
        self.integer(lowest, i64::MAX).and_then(|number| usize::try_from(number).ok())
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.refuse(
            &format!("should be {}, but is {}", one_of(&known), self.shown()),
            nearest(&text, &known).as_deref(),
        );
        None
    }

    /// A number, or a list of numbers.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        if !self.is_array() {
            return self.number().map(|number| vec![number]);
        }
        let elements = self.array()?;
        if elements.is_empty() {
            self.refuse("is an empty list", Some("give one number, or one per channel"));
        }
        elements.iter().map(Node::number).collect()
    }

    /// The value as plain JSON, for what is passed on uninterpreted.
    pub(super) fn json(&self) -> serde_json::Value {
        match self.value {
            Value::StringLit(literal) => literal.value.to_string().into(),
            Value::NumberLit(literal) => serde_json::from_str(literal.value).unwrap_or_default(),
            Value::BooleanLit(literal) => literal.value.into(),
            Value::NullKeyword(_) => serde_json::Value::Null,
            Value::Array(_) => self.array().unwrap_or_default().iter().map(Node::json).collect(),
            Value::Object(object) => {
                let entry = |property: &'d jsonc_parser::ast::ObjectProp<'d>| {
                    let path = join(&self.path, property.name.as_str());
                    let node = Node { context: self.context, value: &property.value, path };
                    (property.name.as_str().to_owned(), node.json())
                };
                serde_json::Value::Object(object.properties.iter().map(entry).collect())
            }
        }
    }
}

/// An object being read: it knows which keys were asked for, so that the others can be refused.
pub(super) struct Object<'d> {
    node: Node<'d>,
    known: RefCell<Vec<&'static str>>,
}

impl<'d> Object<'d> {
    /// The object as a value, for problems that concern it as a whole.
    pub(super) fn node(&self) -> &Node<'d> {
        &self.node
    }

    /// A key's value; `null` counts as absent.
    pub(super) fn get(&self, key: &'static str) -> Option<Node<'d>> {
        self.known.borrow_mut().push(key);
        self.entries().into_iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// A key that must be there.
    pub(super) fn required(&self, key: &'static str) -> Option<Node<'d>> {
        let found = self.get(key);
        if found.is_none() {
            let place = self.node.place();
            self.node.context.problem(self.node.marked(), format!("{place} lacks the key `{key}`"), None);
        }
        found
    }

    /// All entries that are not `null`, in the order of the text.
    pub(super) fn entries(&self) -> Vec<(String, Node<'d>)> {
        let Value::Object(object) = self.node.value else {
            return Vec::new();
        };
        let entry = |property: &'d jsonc_parser::ast::ObjectProp<'d>| {
            let name = property.name.as_str().to_owned();
            let path = join(&self.node.path, &name);
            (name, Node { context: self.node.context, value: &property.value, path })
        };
        let present = |(_, node): &(String, Node<'d>)| !matches!(node.value, Value::NullKeyword(_));
        object.properties.iter().map(entry).filter(present).collect()
    }

    /// Reads a switch of which only one setting is there.
    pub(super) fn only_boolean(&self, key: &'static str, supported: bool, instead: &str) {
        if let Some(node) = self.get(key)
            && node.boolean() == Some(!supported)
        {
            node.unsupported(instead);
        }
    }

    /// Accepts a key that changes no result here.
    pub(super) fn without_effect(&self, key: &'static str, why: &str) {
        if let Some(node) = self.get(key) {
            node.warn(&format!("has no effect: {why}"));
        }
    }

    /// Refuses every key that was never asked for.
    pub(super) fn finish(self) {
        let Value::Object(object) = self.node.value else {
            return;
        };
        let known = self.known.borrow();
        for property in &object.properties {
            let name = property.name.as_str();
            if known.contains(&name) {
                continue;
            }
            let range = Range::new(property.range.start, property.range.start + name.len() + 2);
            let place = self.node.place();
            let help = nearest(name, &known).unwrap_or_else(|| {
                let mut sorted = known.clone();
                sorted.sort_unstable();
                sorted.dedup();
                format!("known here: {}", sorted.join(", "))
            });
            self.node.context.problem(range, format!("{place} has an unknown key `{name}`"), Some(help));
        }
    }
}

/// An absent key is `Some(None)`, one that could not be read `None`.
pub(super) fn flatten<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(None) => None,
        Some(some) => Some(some),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => "absent".to_owned(),
    }
}

/// "did you mean" for the closest word, if it is close: at most a third of the letters differ; of short words only the case may.
fn nearest(text: &str, words: &[&str]) -> Option<String> {
    let lower = text.to_lowercase();
    let closest = words.iter().map(|word| (edit_distance(&lower, &word.to_lowercase()), *word)).min()?;
    let letters = text.chars().count();
    let near = letters > 3 && closest.0 <= letters / 3 || closest.0 == 0;
    near.then(|| format!("did you mean `{}`?", closest.1))
}

/// Levenshtein distance: insertions, deletions and substitutions that turn one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        row[0] = before;
        for (cell, r) in row[1..].iter_mut().zip(&right) {
            before = (diagonal + usize::from(l != *r)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, before);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_counts_single_letter_changes() {
        for (left, right, distance) in
            [("", "", 0), ("abc", "", 3), ("maximum_drop", "maximal_drop", 2), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
            assert_eq!(edit_distance(right, left), distance, "{right} {left}");
        }
    }

    #[test]
    fn comment_marks_inside_strings_are_text() {
        let context = Context::new(r#"{"url": "http://x/*y*/", /* c */ "n": [1, 2,],} // end"#);
        let value = context.parse().expect("well formed");
        let object = context.root(&value).object().expect("an object");
        assert_eq!(object.get("url").and_then(|node| node.string()).as_deref(), Some("http://x/*y*/"));
        assert_eq!(object.get("n").and_then(|node| node.numbers()), Some(vec![1.0, 2.0]));
    }
}
