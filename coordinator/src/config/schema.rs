//! The JSON Schema of configurations, written from the table of keys, for editors that complete and check while typing.
//!
//! It knows structure, words and bounds; what takes two keys to see is the reader's part.

use super::keys::{Key, Kind, ROOT, Role, Section, UNBOUNDED};
use serde_json::{Map, Value, json};

/// The schema of a configuration file.
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let mut root = definitions.object(&ROOT);
    let mut written = Map::new();
    // Describing a section may name further ones, which are described in turn.
    let mut next = 0;
    while let Some((section, name)) = definitions.named.get(next).cloned() {
        written.insert(name, definitions.object(section));
        next += 1;
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Holdfast configuration"));
        root.insert("$defs".to_owned(), Value::Object(written));
    }
    root
}

/// Sections that are referred to by name.
#[derive(Default)]
struct Definitions {
    named: Vec<(&'static Section, String)>,
}

impl Definitions {
    fn reference(&mut self, section: &'static Section) -> Value {
        let known = self.named.iter().find(|(other, _)| std::ptr::eq(*other, section)).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            let alike = self.named.iter().filter(|(other, _)| other.name == section.name).count();
            let name = if alike == 0 { section.name.to_owned() } else { format!("{}_{}", section.name, alike + 1) };
            self.named.push((section, name.clone()));
            name
        });
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn object(&mut self, section: &'static Section) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for key in section.all_keys() {
            properties.insert(key.name.to_owned(), self.property(key));
            if key.role == Role::Required {
                required.push(key.name);
            }
        }
        json!({
            "type": "object",
            "description": section.about,
            "properties": properties,
            "required": required,
            "additionalProperties": section.is_open,
        })
    }

    fn property(&mut self, key: &'static Key) -> Value {
        let mut kind = self.kind(&key.kind);
        if key.role != Role::Required && !matches!(key.kind, Kind::Any) {
            kind = json!({ "anyOf": [kind, { "type": "null" }] });
        }
        if let Some(object) = kind.as_object_mut() {
            object.insert("description".to_owned(), json!(key.about));
            let default = serde_json::from_str(key.default).unwrap_or(Value::Null);
            if matches!(key.role, Role::Common | Role::Rare) && default != Value::Null && default != json!({}) {
                object.insert("default".to_owned(), default);
            }
        }
        kind
    }

    fn kind(&mut self, kind: &'static Kind) -> Value {
        match kind {
            Kind::Any => json!({}),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Number => json!({ "type": "number" }),
            Kind::Whole(lowest, UNBOUNDED) => json!({ "type": "integer", "minimum": lowest }),
            Kind::Whole(lowest, highest) => json!({ "type": "integer", "minimum": lowest, "maximum": highest }),
            Kind::Text => json!({ "type": "string" }),
            Kind::Choice(words) => json!({ "enum": words }),
            Kind::Section(section) => self.reference(section),
            Kind::Map(kind) => json!({ "type": "object", "additionalProperties": self.kind(kind) }),
            Kind::List(kind) => json!({ "type": "array", "items": self.kind(kind) }),
            Kind::Tagged(tag, sections) => {
                let variants = sections.iter().map(|section| self.variant(tag, section)).collect::<Vec<Value>>();
                json!({ "type": "object", "oneOf": variants })
            }
            Kind::Either(kinds) => {
                let kinds = kinds.iter().map(|kind| self.kind(kind)).collect::<Vec<Value>>();
                json!({ "anyOf": kinds })
            }
        }
    }

    fn variant(&mut self, tag: &str, section: &'static Section) -> Value {
        let mut variant = self.object(section);
        if let Some(properties) = variant.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(tag.to_owned(), json!({ "const": section.name }));
        }
        if let Some(required) = variant.get_mut("required").and_then(Value::as_array_mut) {
            required.push(json!(tag));
        }
        variant
    }
}
