//! YAML, as POT and accuracy-checker write it, to a [`Tree`] with the same places as JSON's.
//!
//! Plain words mean what YAML 1.1 makes of them, because that is what both tools read: `yes` and `on` are true.

use super::tree::{Content, Entry, SyntaxError, Tree};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Values may nest this deep; a configuration needs a dozen.
const DEPTH_MAX: usize = 64;
/// A text may have this many values, repeated ones counted again: an alias may repeat what holds aliases.
const VALUES_MAX: usize = 100_000;

/// Parses a text that holds one document.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    let mut builder = Builder::new(text);
    let mut documents = 0;
    for event in Parser::new_from_str(text).keep_tags(true) {
        let (event, span) = event.map_err(|error| builder.scan_error(&error))?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(refuse(builder.range(span), "a second document begins here", "keep one of them"));
            }
        }
        builder.take(event, span)?;
    }
    match builder.root {
        Some(root) if root.content != Content::Null => Ok(root),
        _ => Err(SyntaxError { range: 0..0, problem: "the file is empty".to_owned(), help: None }),
    }
}

fn refuse(range: Range<usize>, problem: &str, help: &str) -> SyntaxError {
    SyntaxError { range, problem: problem.to_owned(), help: Some(help.to_owned()) }
}

/// A list or an object that is not closed yet.
enum Open {
    List { start: usize, anchor: usize, items: Vec<Tree> },
    Object { start: usize, anchor: usize, entries: Vec<Entry>, key: Option<(String, Range<usize>)> },
}

/// Collects events to a tree.
struct Builder<'t> {
    text: &'t str,
    /// The byte each character begins at, and the end.
    offsets: Vec<usize>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Tree>,
    values: usize,
    root: Option<Tree>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Builder<'t> {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        Builder { text, offsets, open: Vec::new(), anchors: BTreeMap::new(), values: 0, root: None }
    }

    fn offset(&self, marker: Marker) -> usize {
        self.offsets.get(marker.index()).copied().unwrap_or(self.text.len())
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start);
        start..self.offset(span.end).max(start)
    }

    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        let start = self.offset(*error.marker());
        SyntaxError { range: start..start, problem: format!("this is not YAML: {}", error.info()), help: None }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let range = self.range(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(tree) => {
                    self.values += count(tree);
                    let tree = tree.clone();
                    self.put(tree, 0)
                }
                None => Err(refuse(range, "this alias stands inside what it repeats", "write the value out")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let content = scalar(text, style, tag).ok_or_else(|| tagged(range.clone()))?;
                self.put(Tree { range, content }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(tag, &range)?;
                self.push(Open::List { start: range.start, anchor, items: Vec::new() }, range)
            }
            Event::MappingStart(anchor, tag) => {
                untagged(tag, &range)?;
                self.push(Open::Object { start: range.start, anchor, entries: Vec::new(), key: None }, range)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end),
        }
    }

    fn push(&mut self, open: Open, range: Range<usize>) -> Result<(), SyntaxError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(refuse(range, &format!("values nest deeper than {DEPTH_MAX}"), "flatten them"));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), SyntaxError> {
        let (tree, anchor) = match self.open.pop() {
            Some(Open::List { start, anchor, items }) => {
                (Tree { range: start..end.max(start), content: Content::List(items) }, anchor)
            }
            Some(Open::Object { start, anchor, entries, .. }) => {
                (Tree { range: start..end.max(start), content: Content::Object(entries) }, anchor)
            }
            None => return Ok(()),
        };
        self.put(tree, anchor)
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, tree: Tree, anchor: usize) -> Result<(), SyntaxError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(refuse(tree.range, &format!("there are more than {VALUES_MAX} values"), "repeat less"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(tree),
            Some(Open::List { items, .. }) => items.push(tree),
            Some(Open::Object { entries, key, .. }) => match key.take() {
                Some((name, range)) => entries.push(Entry { key: name, range, value: tree }),
                None => {
                    let range = tree.range.clone();
                    let name = match tree.content {
                        Content::Text(name) | Content::Number(name) => name,
                        Content::Boolean(_) => self.text.get(range.clone()).unwrap_or_default().to_owned(),
                        Content::Null | Content::List(_) | Content::Object(_) => {
                            return Err(refuse(range, "a key should be a word", "write `key: value`"));
                        }
                    };
                    if name == "<<" {
                        return Err(refuse(range, "merging with `<<` is not supported", "write the keys out"));
                    }
                    *key = Some((name, range));
                }
            },
        }
        Ok(())
    }
}

fn count(tree: &Tree) -> usize {
    1 + match &tree.content {
        Content::List(items) => items.iter().map(count).sum(),
        Content::Object(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        Content::Null | Content::Boolean(_) | Content::Number(_) | Content::Text(_) => 0,
    }
}

fn tagged(range: Range<usize>) -> SyntaxError {
    refuse(range, "tags are not supported", "write the value without the word that begins with `!`")
}

fn untagged(tag: Option<Cow<'_, Tag>>, range: &Range<usize>) -> Result<(), SyntaxError> {
    if tag.is_some() { Err(tagged(range.clone())) } else { Ok(()) }
}

/// What a scalar means; `None` where it has a tag other than `!!str`.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<Cow<'_, Tag>>) -> Option<Content> {
    if let Some(tag) = tag {
        return (tag.is_yaml_core_schema() && tag.suffix == "str").then(|| Content::Text(text.into_owned()));
    }
    if style != ScalarStyle::Plain {
        return Some(Content::Text(text.into_owned()));
    }
    Some(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Content::Boolean(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Content::Boolean(false),
        plain if is_number(plain) => Content::Number(text.into_owned()),
        _ => Content::Text(text.into_owned()),
    })
}

/// Whether a plain word is a decimal number; octal, hexadecimal and infinite ones stay words.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(['-', '+']);
    word.len() - digits.len() <= 1 && digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') && {
        word.parse::<f64>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Vec<Entry> {
        match parse(text).expect("well formed").content {
            Content::Object(entries) => entries,
            other => panic!("expected an object, got {other:?}"),
        }
    }

    #[test]
    fn every_value_and_key_stands_where_it_is_written() {
        let text = "# é comment\nname: \"net\"\nlist:\n  - 1.5\n  - {a: yes, 'b': ~}\n";
        let entries = object(text);
        let at = |range: &Range<usize>| &text[range.clone()];
        assert_eq!((at(&entries[0].range), at(&entries[0].value.range)), ("name", "\"net\""));
        let Content::List(items) = &entries[1].value.content else { panic!("a list") };
        assert_eq!((at(&items[0].range), &items[0].content), ("1.5", &Content::Number("1.5".to_owned())));
        let Content::Object(inner) = &items[1].content else { panic!("an object") };
        assert_eq!((at(&inner[0].value.range), &inner[0].value.content), ("yes", &Content::Boolean(true)));
        assert_eq!((at(&inner[1].range), &inner[1].value.content), ("'b'", &Content::Null));
    }

    #[test]
    fn words_quotes_and_numbers_are_told_apart() {
        let entries = object("a: 12\nb: '12'\nc: 1e-3\nd: .5\ne: 1.2.3\nf: off\ng: !!str 7\nh: '-'\ni: --1\nj: .inf\n");
        let number = |text: &str| Content::Number(text.to_owned());
        let word = |text: &str| Content::Text(text.to_owned());
        let found: Vec<Content> = entries.into_iter().map(|entry| entry.value.content).collect();
        let expected = [number("12"), word("12"), number("1e-3"), number(".5"), word("1.2.3"), Content::Boolean(false)];
        assert_eq!(found[..6], expected);
        assert_eq!(found[6..], [word("7"), word("-"), word("--1"), word(".inf")]);
    }

    #[test]
    fn an_alias_repeats_its_value() {
        let entries = object("a: &steps [1, 2]\nb: *steps\n");
        assert_eq!(entries[0].value, entries[1].value);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_stands() {
        for (text, at, problem) in [
            ("", 0, "empty"),
            ("a: [1, 2\n", 9, "not YAML"),
            ("a: 1\n---\nb: 2\n", 5, "second document"),
            ("a: !python/object x\n", 19, "tags"),
            ("a: &a {b: *a}\n", 10, "inside what it repeats"),
            ("base: &b {a: 1}\nc:\n  <<: *b\n", 21, "merging"),
            ("? [1]\n: 2\n", 2, "a key should be a word"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.problem.contains(problem), "{text}: {error:?}");
            assert!(error.range.start.abs_diff(at) <= 17, "{text}: {error:?}");
        }
    }

    #[test]
    fn repeating_and_nesting_are_bounded() {
        let bomb: String = (1..20).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let before = level - 1;
            let ten = vec![format!("*a{before}"); 10].join(", ");
            text + &format!("a{level}: &a{level} [{ten}]\n")
        });
        assert!(parse(&bomb).expect_err("too many values").problem.contains("more than"));
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert!(parse(&deep).expect_err("too deep").problem.contains("deeper"));
    }
}
