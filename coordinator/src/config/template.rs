//! A commented configuration to begin with, written from the table of keys.

use super::keys::{Key, Kind, ROOT, Role, Section};
use clap::ValueEnum;

/// The language of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TemplateFormat {
    /// JSON with comments.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

/// A configuration with a sentence for every key; `full` shows every key with its default, otherwise the usual ones.
pub fn template(format: TemplateFormat, full: bool) -> String {
    let value = Value::of_section(&ROOT, full);
    let mut text = String::new();
    match format {
        TemplateFormat::Json => {
            text.push_str(&format!("// {}. What is null may be left out.\n", sentence(ROOT.about)));
            write_json(&mut text, &value, 0);
            text.push('\n');
        }
        TemplateFormat::Yaml => {
            text.push_str(&format!("# {}. What is null may be left out.\n", sentence(ROOT.about)));
            write_yaml(&mut text, &value, 0);
        }
    }
    text
}

/// What is to be written for a key.
enum Value {
    /// JSON, which is YAML as well.
    Plain(&'static str),
    Object(Vec<(&'static Key, Value)>),
    /// A list of one.
    List(Box<Value>),
}

impl Value {
    fn of_section(section: &'static Section, full: bool) -> Value {
        let shown = |key: &&Key| match key.role {
            Role::Required | Role::Common => true,
            Role::Rare => full,
            Role::Foreign => false,
        };
        Value::Object(section.all_keys().filter(shown).map(|key| (key, Value::of_key(key, full))).collect())
    }

    fn of_key(key: &'static Key, full: bool) -> Value {
        let first = match &key.kind {
            Kind::Either(kinds) => kinds.first().unwrap_or(&Kind::Any),
            kind => kind,
        };
        match (key.default, first) {
            ("{}", Kind::Section(section)) => Value::of_section(section, full),
            ("[{}]", Kind::List(Kind::Section(section))) => Value::List(Box::new(Value::of_section(section, full))),
            (plain, _) => Value::Plain(plain),
        }
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn indent(text: &mut String, depth: usize) {
    text.push_str(&"  ".repeat(depth));
}

fn write_json(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Plain(plain) => text.push_str(plain),
        Value::List(element) => {
            text.push_str("[\n");
            indent(text, depth + 1);
            write_json(text, element, depth + 1);
            text.push('\n');
            indent(text, depth);
            text.push(']');
        }
        Value::Object(entries) => {
            text.push_str("{\n");
            for (index, (key, value)) in entries.iter().enumerate() {
                indent(text, depth + 1);
                text.push_str(&format!("// {}.\n", key.about));
                indent(text, depth + 1);
                text.push_str(&format!("\"{}\": ", key.name));
                write_json(text, value, depth + 1);
                text.push_str(if index + 1 < entries.len() { ",\n" } else { "\n" });
            }
            indent(text, depth);
            text.push('}');
        }
    }
}

/// Writes lines that begin at `depth`.
fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Plain(plain) => {
            indent(text, depth);
            text.push_str(plain);
            text.push('\n');
        }
        Value::List(element) => {
            indent(text, depth);
            text.push_str("-\n");
            write_yaml(text, element, depth + 1);
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                indent(text, depth);
                text.push_str(&format!("# {}.\n", key.about));
                indent(text, depth);
                text.push_str(key.name);
                text.push(':');
                if let Value::Plain(plain) = value {
                    text.push_str(&format!(" {plain}\n"));
                } else {
                    text.push('\n');
                    write_yaml(text, value, depth + 1);
                }
            }
        }
    }
}
