//! The table of keys against the reader: what the one lists the other reads, with the same words and defaults.

use super::*;
use crate::config::keys::{Key, Kind, ROOT, Role, Section};
use holdfast_core::parameters::RangeEstimatorParameters;
use serde_json::{Value, json};

/// Every key reachable from a section, with its path in [`full`]'s words.
fn visit(section: &'static Section, path: &str, see: &mut dyn FnMut(&'static Key, &str)) {
    for key in section.all_keys() {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}/{}", key.name) };
        see(key, &path);
        visit_kind(&key.kind, &path, see);
    }
}

fn visit_kind(kind: &'static Kind, path: &str, see: &mut dyn FnMut(&'static Key, &str)) {
    match kind {
        Kind::Section(section) => visit(section, path, see),
        Kind::List(Kind::Section(section)) => visit(section, &format!("{path}/0"), see),
        Kind::Either(kinds) => {
            if let Some(first) = kinds.first() {
                visit_kind(first, path, see);
            }
        }
        _ => {}
    }
}

/// The full template as plain JSON.
fn full() -> Value {
    let text = template(TemplateFormat::Json, true);
    let findings = Findings::default();
    let source = findings.parse("template.json", &text, json::parse).expect("well formed");
    findings.root(&source).json()
}

fn set(value: &mut Value, path: &str, new: Value) {
    let mut at = value;
    for part in path.split('/') {
        at = match part.parse::<usize>() {
            Ok(index) => {
                if at.get(index).is_none() {
                    *at = json!([{}]);
                }
                &mut at[index]
            }
            Err(_) => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    *at = new;
}

/// The path as messages write it.
fn shown(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('/') {
        match part.parse::<usize>() {
            Ok(index) => text.push_str(&format!("[{index}]")),
            Err(_) => text.push_str(&if text.is_empty() { part.to_owned() } else { format!(".{part}") }),
        }
    }
    text
}

#[test]
fn templates_are_valid_and_give_the_algorithms_own_defaults() {
    for format in [TemplateFormat::Json, TemplateFormat::Yaml] {
        for full in [false, true] {
            let text = template(format, full);
            let file = if format == TemplateFormat::Json { "c.json" } else { "c.yml" };
            let request = parse(&text, file, Path::new("")).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let mut unnamed = Parameters { metrics: Vec::new(), ..request.parameters.clone() };
            // A range estimator that says the defaults is as good as none.
            let quantization = &mut unnamed.quantization;
            let (weights, activations) = (&mut quantization.weights, &mut quantization.activations);
            for given in
                [&mut weights.range_estimator, &mut activations.range_estimator, &mut quantization.range_estimator]
            {
                *given = given.filter(|estimator| *estimator != RangeEstimatorParameters::default());
            }
            assert_eq!(unnamed, Parameters::default());
            assert_eq!(metric_names(&request), ["accuracy@top1"]);
            assert_eq!(request.model, Path::new("model.onnx"));
            // Two data sets that do not say in which order they want channels.
            let about_channels = |warning: &&String| warning.contains("in which order the model reads channels");
            assert_eq!(request.warnings.iter().filter(about_channels).count(), request.warnings.len());
        }
    }
}

#[test]
fn both_languages_of_a_template_say_the_same() {
    for full in [false, true] {
        let json = parse(&template(TemplateFormat::Json, full), "c.json", Path::new("")).expect("valid");
        let mut yaml = parse(&template(TemplateFormat::Yaml, full), "c.yml", Path::new("")).expect("valid");
        yaml.warnings.clone_from(&json.warnings);
        assert_eq!(json, yaml);
    }
}

/// A key that the table lists and the reader never asks for would be lost in silence.
#[test]
fn every_key_of_the_table_is_read() {
    let base = full();
    let mut unread = Vec::new();
    visit(&ROOT, "", &mut |key, path| {
        let wrong = match key.kind {
            Kind::Any => return,
            Kind::Text | Kind::Map(_) | Kind::List(_) | Kind::Section(_) | Kind::Either(_) => json!(true),
            Kind::Boolean | Kind::Number | Kind::Whole(..) | Kind::Choice(_) => json!({ "x": 1 }),
            Kind::Tagged(..) => json!(true),
        };
        // Launchers are read leniently, and a simplified engine is another reading.
        if path.contains("launchers/") || ["layout", "central_fraction", "device"].contains(&key.name) {
            return;
        }
        let mut changed = base.clone();
        set(&mut changed, path, wrong);
        let place = format!("`{}`", shown(path));
        let told = match parse(&changed.to_string(), "c.json", Path::new("")) {
            Ok(request) => request.warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        if !told.contains(&place) {
            unread.push(format!("{path}: {told}"));
        }
    });
    assert!(unread.is_empty(), "{}", unread.join("\n"));
}

#[test]
fn every_word_of_the_table_is_known_to_the_reader_and_no_other() {
    let base = full();
    let mut checked = 0;
    visit(&ROOT, "", &mut |key, path| {
        let Kind::Choice(words) = key.kind else { return };
        if key.role == Role::Foreign {
            return;
        }
        let place = format!("`{}` should be", shown(path));
        for word in words.iter().chain(&["no such word"]) {
            let mut changed = base.clone();
            set(&mut changed, path, json!(word));
            let told = parse(&changed.to_string(), "c.json", Path::new("")).err().map(|error| error.to_string());
            let refused = told.as_ref().and_then(|told| told.split('\n').find(|line| line.contains(&place)));
            assert_eq!(refused.is_some(), *word == "no such word", "{path}: {word}: {told:?}");
            if let Some(refused) = refused {
                let said = words.iter().all(|word| refused.contains(&format!("\"{word}\"")));
                assert!(said, "{path}: {refused}");
                checked += 1;
            }
        }
    });
    assert!(checked > 15, "{checked} choices");
}

#[test]
fn defaults_are_json_and_sentences_have_no_final_stop() {
    visit(&ROOT, "", &mut |key, path| {
        assert!(serde_json::from_str::<Value>(key.default).is_ok(), "{path}: {}", key.default);
        assert!(!key.about.is_empty() && !key.about.ends_with('.'), "{path}: {}", key.about);
    });
}

#[test]
fn the_schema_refers_to_nothing_that_is_not_there() {
    let schema = schema();
    let text = schema.to_string();
    let definitions = schema["$defs"].as_object().expect("definitions");
    let mut references = 0;
    for part in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(definitions.contains_key(name), "{name}");
        references += 1;
    }
    assert!(references >= definitions.len(), "every definition is used");
    assert_eq!(schema["properties"]["model"]["$ref"], "#/$defs/model");
    let params = &definitions["AccuracyAwareQuantization"]["properties"];
    assert_eq!(params["maximal_drop"]["default"], json!(0.01));
    // Parameters of the base algorithm are legal too.
    assert_eq!(params["use_fast_bias"]["default"], json!(true));
}
