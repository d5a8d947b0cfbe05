//! Greedy decoding of connectionist temporal classification: the best class a step, repetitions and blanks left out.

use super::super::input::{Input, best};
use super::super::parameters::{DeclarationError, Parameters};
use super::super::{MetricError, Outputs};
use serde::{Deserialize, Serialize};

/// How an output [1, steps, classes], or [steps, 1, classes], becomes a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtcDecoder {
    /// What each class stands for; the blank may have an entry, which is never read.
    pub alphabet: Vec<String>,
    /// The class that stands for nothing.
    pub blank_label: usize,
}

impl CtcDecoder {
    /// Reads `adapter` beside a text metric.
    pub(in super::super) fn read(parameters: &mut Parameters<'_>) -> Result<CtcDecoder, DeclarationError> {
        let word = "ctc_greedy_search_decoder";
        let Some(mut adapter) = parameters.object("adapter")? else {
            return parameters.refuse("adapter", format!("is missing; give its `type` \"{word}\" and the `alphabet`"));
        };
        if adapter.choice("type", &[(word, ())])?.is_none() {
            return adapter.refuse("type", format!("is missing; \"{word}\" is what there is"));
        }
        let blank_label = adapter.count("blank_label", 0)?.unwrap_or(0);
        let alphabet = match adapter.value("alphabet") {
            Some(serde_json::Value::String(characters)) => characters.chars().map(String::from).collect(),
            _ => adapter.texts("alphabet")?.unwrap_or_default(),
        };
        if alphabet.is_empty() {
            return adapter
                .refuse("alphabet", "should be a string of all characters, or a list of strings, in class order");
        }
        adapter.finish()?;
        Ok(CtcDecoder { alphabet, blank_label })
    }

    /// The text of one sample.
    pub(in super::super) fn decode(&self, input: &Input, outputs: &Outputs<'_>) -> Result<String, MetricError> {
        let (array, values) = input.values(outputs)?;
        let classes = match *array.shape() {
            [1, _, classes] | [_, 1, classes] if classes > 0 => classes,
            _ => {
                let shape = array.shape();
                let problem = format!("the output has shape {shape:?}; [1, steps, classes] was expected");
                return Err(input.output_error(problem));
            }
        };
        let has_blank = self.alphabet.len() == classes;
        if self.blank_label >= classes || (!has_blank && self.alphabet.len() + 1 != classes) {
            return Err(input.output_error(format!(
                "the output has {classes} classes, but the alphabet has {} entries and the blank is class {}",
                self.alphabet.len(),
                self.blank_label
            )));
        }
        let mut text = String::new();
        let mut before = self.blank_label;
        for scores in values.chunks_exact(classes) {
            let class = best(scores);
            if class != before && class != self.blank_label {
                let entry = if has_blank || class < self.blank_label { class } else { class - 1 };
                text.push_str(&self.alphabet[entry]);
            }
            before = class;
        }
        Ok(text)
    }
}
