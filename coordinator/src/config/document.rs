//! Reading a configuration key by key: every key remembers where it stands, and every mistake is collected.
//!
//! The text is parsed to a tree and read straight from it, so that type errors, unknown keys and mistakes found by
//! comparing two keys all point at their place in the source, and one run reports all of them.

use super::keys::Section;
use super::problem::{InvalidConfig, Problem};
use super::tree::{Content, Entry, Source, SyntaxError, Tree};
use super::words::{nearest, one_of};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// Unknown keys are answered with all known ones where these are no more than so many.
const KEYS_SHOWN: usize = 16;

/// Collects what is wrong and what deserves a warning while texts are read.
#[derive(Default)]
pub(super) struct Findings {
    texts: RefCell<Vec<(String, String)>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Findings {
    /// Parses a text; `None` where it is not well formed or an object names a key twice.
    pub(super) fn parse(
        &self,
        name: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<Tree, SyntaxError>,
    ) -> Option<Source> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file = self.texts.borrow().len();
        self.texts.borrow_mut().push((name.to_owned(), text.to_owned()));
        match parse(text) {
            Ok(tree) => {
                let source = Source { file, text: text.to_owned(), tree };
                self.refuse_duplicates(&source, &source.tree, "");
                Some(source)
            }
            Err(error) => {
                let problem = locate(file, text, error.range, error.problem, error.help);
                push_once(&self.problems, problem);
                None
            }
        }
    }

    fn refuse_duplicates(&self, source: &Source, tree: &Tree, path: &str) {
        match &tree.content {
            Content::Object(entries) => {
                let mut seen = BTreeMap::new();
                for (index, entry) in entries.iter().enumerate() {
                    let path = join(path, &entry.key);
                    let (first, place) = seen.entry(entry.key.as_str()).or_insert((index, entry.range.start));
                    if *first != index {
                        let (line, _) = Source::position(&source.text, *place);
                        let help = format!("the first one is in line {line}; remove one of them");
                        self.problem(source, entry.range.clone(), format!("`{path}` is given twice"), Some(help));
                    }
                    self.refuse_duplicates(source, &entry.value, &path);
                }
            }
            Content::List(items) => {
                for (index, element) in items.iter().enumerate() {
                    self.refuse_duplicates(source, element, &format!("{path}[{index}]"));
                }
            }
            Content::Null | Content::Boolean(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    /// The outermost value of a text.
    pub(super) fn root<'d>(&'d self, source: &'d Source) -> Node<'d> {
        Node { findings: self, source, value: &source.tree, path: String::new(), owner: None }
    }

    fn problem(&self, source: &Source, range: Range<usize>, message: String, help: Option<String>) {
        push_once(&self.problems, locate(source.file, &source.text, range, message, help));
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// What is wrong, in the order of the texts.
    pub(super) fn into_invalid(self) -> InvalidConfig {
        InvalidConfig::new(self.texts.into_inner(), sorted(self.problems.into_inner()))
    }

    /// What deserves a warning: `file:line:column: remark`, in the order of the texts.
    pub(super) fn into_warnings(self) -> Vec<String> {
        let texts = self.texts.into_inner();
        let show = |warning: &Problem| {
            let name = texts.get(warning.file).map_or("", |(name, _)| name.as_str());
            format!("{name}:{}:{}: {}", warning.line, warning.column, warning.message)
        };
        sorted(self.warnings.into_inner()).iter().map(show).collect()
    }
}

fn sorted(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort_by_key(|problem| (problem.file, problem.line, problem.column));
    list
}

fn locate(file: usize, text: &str, range: Range<usize>, message: String, help: Option<String>) -> Problem {
    let (line, column) = Source::position(text, range.start);
    let span = (range.start, range.end.saturating_sub(range.start)).into();
    Problem { message, help, line, column, file, span }
}

/// A section that serves two data sets is read twice, and its mistakes are still one.
fn push_once(list: &RefCell<Vec<Problem>>, problem: Problem) {
    let mut list = list.borrow_mut();
    if !list.contains(&problem) {
        list.push(problem);
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// One value of the text, with its path.
#[derive(Clone)]
pub(super) struct Node<'d> {
    findings: &'d Findings,
    source: &'d Source,
    value: &'d Tree,
    path: String,
    /// Whose key this is, for messages about unknown ones.
    owner: Option<&'static str>,
}

impl<'d> Node<'d> {
    /// Records that this value is wrong; `problem` follows the path.
    pub(super) fn refuse(&self, problem: &str, help: Option<&str>) {
        let message = format!("{} {problem}", self.place());
        self.findings.problem(self.source, self.marked(), message, help.map(str::to_owned));
    }

    /// Records that the user should know something about this value.
    pub(super) fn warn(&self, remark: &str) {
        let message = format!("`{}` {remark}", self.path);
        let warning = locate(self.source.file, &self.source.text, self.marked(), message, None);
        push_once(&self.findings.warnings, warning);
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

    /// What to underline: a plain value whole, of an object or a list the first byte.
    fn marked(&self) -> Range<usize> {
        let range = self.value.range.clone();
        match self.value.content {
            Content::Object(_) | Content::List(_) => range.start..(range.start + 1).min(self.source.text.len()),
            Content::Null | Content::Boolean(_) | Content::Number(_) | Content::Text(_) => range,
        }
    }

    fn expected(&self, what: &str) {
        let is_nested = self.is_object() || self.is_array();
        let help = is_nested.then_some("the structure is wrong: one plain value belongs here");
        self.refuse(&format!("should be {what}, but is {}", self.shown()), help);
    }

    /// As [`Node::expected`], where a list or an object may be right.
    fn expected_structure(&self, what: &str) {
        self.refuse(&format!("should be {what}, but is {}", self.shown()), None);
    }

    fn shown(&self) -> String {
        match &self.value.content {
            Content::Object(_) => "an object".to_owned(),
            Content::List(_) => "a list".to_owned(),
            Content::Null => "null".to_owned(),
            Content::Boolean(_) | Content::Number(_) | Content::Text(_) => {
                let text = self.source.text.get(self.value.range.clone()).unwrap_or_default().trim_end();
                match text.char_indices().nth(60) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text.to_owned(),
                }
            }
        }
    }

    fn at(&self, value: &'d Tree, path: String) -> Node<'d> {
        Node { findings: self.findings, source: self.source, value, path, owner: self.owner }
    }

    /// The same value as a parameter of this algorithm, which messages about unknown keys name.
    pub(super) fn owned_by(mut self, owner: &'static str) -> Node<'d> {
        self.owner = Some(owner);
        self
    }

    /// Where mistakes are collected.
    pub(super) fn findings(&self) -> &'d Findings {
        self.findings
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self.value.content, Content::Object(_))
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.value.content, Content::List(_))
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.value.content, Content::Text(_))
    }

    /// An object with any keys.
    pub(super) fn object(&self) -> Option<Object<'d>> {
        if self.is_object() {
            return Some(Object { node: self.clone() });
        }
        self.expected_structure("an object");
        None
    }

    /// An object with the keys of a section; all others are refused.
    pub(super) fn section(&self, section: &Section) -> Option<Object<'d>> {
        let object = self.object()?;
        if !section.is_open {
            object.refuse_unknown(section, &[]);
        }
        Some(object)
    }

    /// The value under a key of an object, or at a position of a list; `None` where there is none.
    pub(super) fn child(&self, key: &str) -> Option<Node<'d>> {
        match self.value.content {
            Content::Object(_) => self.object()?.get(key),
            Content::List(_) => self.array()?.into_iter().nth(key.parse().ok()?),
            Content::Null | Content::Boolean(_) | Content::Number(_) | Content::Text(_) => None,
        }
    }

    /// A list's elements.
    pub(super) fn array(&self) -> Option<Vec<Node<'d>>> {
        let Content::List(items) = &self.value.content else {
            self.expected_structure("a list");
            return None;
        };
        let element = |(index, value)| self.at(value, format!("{}[{index}]", self.path));
        Some(items.iter().enumerate().map(element).collect())
    }

    pub(super) fn string(&self) -> Option<String> {
        match &self.value.content {
            Content::Text(text) => Some(text.clone()),
            _ => {
                self.expected("a string");
                None
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(&self) -> Option<Vec<String>> {
        let read: Vec<Option<String>> = self.array()?.iter().map(Node::string).collect();
        read.into_iter().collect()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value.content {
            Content::Boolean(value) => Some(value),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        let parsed = match &self.value.content {
            Content::Number(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
            _ => None,
        };
        if parsed.is_none() {
            self.expected("a finite number");
        }
        parsed
    }

    /// A finite number that lies in a range, which `what` describes.
    pub(super) fn number_within(&self, within: impl Fn(f64) -> bool, what: &str) -> Option<f64> {
        let number = self.number()?;
        if within(number) {
            return Some(number);
        }
        self.expected(what);
        None
    }

    /// A whole number between two bounds, both allowed.
    pub(super) fn integer(&self, lowest: i64, highest: i64) -> Option<i64> {
        let parsed = match &self.value.content {
            Content::Number(text) => text.parse::<i64>().ok(),
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
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        if !self.is_string() {
            self.expected(&one_of(&known));
            return None;
        }
        let text = self.string()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let problem = format!("should be {}, but is {}", one_of(&known), self.shown());
        self.refuse(&problem, nearest(&text, &known).as_deref());
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
        json(self.value)
    }
}

fn json(tree: &Tree) -> serde_json::Value {
    match &tree.content {
        Content::Text(text) => text.clone().into(),
        // YAML writes some numbers as JSON does not: +1, .5.
        Content::Number(text) => serde_json::from_str(text)
            .ok()
            .or_else(|| text.parse::<i64>().ok().map(Into::into))
            .or_else(|| text.parse::<f64>().ok().map(Into::into))
            .unwrap_or_default(),
        Content::Boolean(value) => (*value).into(),
        Content::Null => serde_json::Value::Null,
        Content::List(items) => items.iter().map(json).collect(),
        Content::Object(entries) => {
            serde_json::Value::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect())
        }
    }
}

/// An object being read.
pub(super) struct Object<'d> {
    node: Node<'d>,
}

impl<'d> Object<'d> {
    /// The object as a value, for problems that concern it as a whole.
    pub(super) fn node(&self) -> &Node<'d> {
        &self.node
    }

    /// A key's value; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<Node<'d>> {
        self.entries().into_iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// A key that must be there.
    pub(super) fn required(&self, key: &str) -> Option<Node<'d>> {
        let found = self.get(key);
        if found.is_none() {
            let (place, node) = (self.node.place(), &self.node);
            node.findings.problem(node.source, node.marked(), format!("{place} lacks the key `{key}`"), None);
        }
        found
    }

    /// All entries that are not `null`, in the order of the text.
    pub(super) fn entries(&self) -> Vec<(String, Node<'d>)> {
        let Content::Object(entries) = &self.node.value.content else {
            return Vec::new();
        };
        let present = entries.iter().filter(|entry| entry.value.content != Content::Null);
        let node = |entry: &'d Entry| self.node.at(&entry.value, join(&self.node.path, &entry.key));
        present.map(|entry| (entry.key.clone(), node(entry))).collect()
    }

    /// The value of a key, or `default` where it is absent; `None` where it could not be read.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Node<'d>) -> Option<T>) -> Option<T> {
        self.get(key).map_or(Some(default), |node| read(&node))
    }

    /// The value of a key that may be absent; the outer `None` is a value that could not be read.
    pub(super) fn optional<T>(&self, key: &str, read: impl FnOnce(&Node<'d>) -> Option<T>) -> Option<Option<T>> {
        self.get(key).map_or(Some(None), |node| read(&node).map(Some))
    }

    /// Reads a switch of which only one setting is there.
    pub(super) fn only_boolean(&self, key: &str, supported: bool, instead: &str) {
        if let Some(node) = self.get(key)
            && node.boolean() == Some(!supported)
        {
            node.unsupported(instead);
        }
    }

    /// Accepts a key that changes no result here.
    pub(super) fn without_effect(&self, key: &str, why: &str) {
        if let Some(node) = self.get(key) {
            node.warn(&format!("has no effect: {why}"));
        }
    }

    /// Accepts a key that changes no result here, silently where it has the section's default.
    pub(super) fn without_effect_unless_default(&self, key: &str, section: &Section, why: &str) {
        let default = section.all_keys().find(|known| known.name == key).map_or("null", |known| known.default);
        let default: serde_json::Value = serde_json::from_str(default).unwrap_or_default();
        if self.get(key).is_some_and(|node| node.json() != default) {
            self.without_effect(key, why);
        }
    }

    /// Refuses every key that neither belongs to the section nor is one of `more`.
    pub(super) fn refuse_unknown(&self, section: &Section, more: &[&'static str]) {
        let Content::Object(entries) = &self.node.value.content else {
            return;
        };
        let known: Vec<&str> = section.all_keys().map(|key| key.name).chain(more.iter().copied()).collect();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let owner = self.node.owner.map_or(String::new(), |owner| format!(" ({owner})"));
            let message = format!("{}{owner} has an unknown key `{}`", self.node.place(), entry.key);
            let help = nearest(&entry.key, &known).unwrap_or_else(|| {
                let mut sorted = known.clone();
                sorted.sort_unstable();
                if sorted.is_empty() {
                    "there are no keys here".to_owned()
                } else if sorted.len() <= KEYS_SHOWN {
                    format!("known here: {}", sorted.join(", "))
                } else {
                    "`holdfast config template --full` shows all keys".to_owned()
                }
            });
            self.node.findings.problem(self.node.source, entry.range.clone(), message, Some(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_marks_inside_strings_are_text() {
        let findings = Findings::default();
        let text = r#"{"url": "http://x/*y*/", /* c */ "n": [1, 2,],} // end"#;
        let source = findings.parse("c.json", text, crate::config::json::parse).expect("well formed");
        let object = findings.root(&source).object().expect("an object");
        assert_eq!(object.get("url").and_then(|node| node.string()).as_deref(), Some("http://x/*y*/"));
        assert_eq!(object.get("n").and_then(|node| node.numbers()), Some(vec![1.0, 2.0]));
    }
}
