//! Reading the parameters of a declared metric key by key, so that every mistake names its key and the known ones.

use serde_json::{Map, Value};

/// Numbers a list among the parameters may hold.
const MAX_LIST: usize = 1 << 17;

/// A metric is declared in a way that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// No such metric.
    #[error("there is no metric `{word}`; known are {}", known.join(", "))]
    Metric {
        /// The word found.
        word: String,
        /// The words there are.
        known: Vec<&'static str>,
    },
    /// A parameter that the metric does not have.
    #[error("`{key}` is no parameter here; {}", parameters_text(known))]
    Key {
        /// Its path, such as `adapter.classes`.
        key: String,
        /// The keys known at that place.
        known: Vec<&'static str>,
    },
    /// A parameter that is missing, of another type, or makes no sense.
    #[error("`{key}` {problem}")]
    Value {
        /// Its path.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

fn parameters_text(known: &[&'static str]) -> String {
    if known.is_empty() { "there are none".to_owned() } else { format!("known are {}", known.join(", ")) }
}

impl DeclarationError {
    /// The path of the parameter that is wrong; `None` where the metric itself is not known.
    pub fn key(&self) -> Option<&str> {
        match self {
            DeclarationError::Metric { .. } => None,
            DeclarationError::Key { key, .. } | DeclarationError::Value { key, .. } => Some(key),
        }
    }
}

/// The parameters at one level, and which of them were asked for.
pub(super) struct Parameters<'a> {
    map: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Parameters<'a> {
        Parameters { map, path: String::new(), known: Vec::new() }
    }

    /// The parameters of an element of a list that stands under `key`.
    fn nested(&self, map: &'a Map<String, Value>, key: &str) -> Parameters<'a> {
        Parameters { map, path: format!("{}.", self.path_of(key)), known: Vec::new() }
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The value under a key; `null` counts as absent.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The error that says what is wrong with a key.
    pub(super) fn refuse<T>(&self, key: &str, problem: impl Into<String>) -> Result<T, DeclarationError> {
        Err(DeclarationError::Value { key: self.path_of(key), problem: problem.into() })
    }

    fn expected<T>(&self, key: &str, what: &str, found: &Value) -> Result<T, DeclarationError> {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push('…');
        }
        self.refuse(key, format!("should be {what}, but is {found}"))
    }

    /// A whole number from `lowest` on.
    pub(super) fn count(&mut self, key: &'static str, lowest: usize) -> Result<Option<usize>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count >= lowest);
        match count {
            Some(count) => Ok(Some(count)),
            None => self.expected(key, &format!("a whole number, {lowest} or more"), value),
        }
    }

    /// A whole number that may be negative.
    pub(super) fn integer(&mut self, key: &'static str) -> Result<Option<i64>, DeclarationError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => self.expected(key, "a whole number", value),
            },
        }
    }

    /// A finite number from `lowest` to `highest`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        lowest: f64,
        highest: f64,
    ) -> Result<Option<f64>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_f64().filter(|number| (lowest..=highest).contains(number)) {
            Some(number) => Ok(Some(number)),
            None if highest == f64::MAX => self.expected(key, &format!("a number, {lowest} or more"), value),
            None => self.expected(key, &format!("a number from {lowest} to {highest}"), value),
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, DeclarationError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => self.expected(key, "true or false", value),
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, DeclarationError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => self.expected(key, "a string", value),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match words.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                self.expected(key, &format!("one of {}", known.join(", ")), value)
            }
        }
    }

    /// A list of finite numbers; one number or a text of comma-separated ones will do.
    pub(super) fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = match value {
            Value::Number(number) => number.as_f64().map(|number| vec![number]),
            Value::Array(list) if list.len() <= MAX_LIST => list.iter().map(Value::as_f64).collect(),
            Value::String(text) => text.split(',').map(|number| number.trim().parse().ok()).collect(),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Object(_) => None,
        };
        match numbers.filter(|numbers| !numbers.is_empty() && numbers.iter().all(|number| number.is_finite())) {
            Some(numbers) => Ok(Some(numbers)),
            None => self.expected(key, "a list of numbers", value),
        }
    }

    /// A list of strings; one string will do.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let texts: Option<Vec<String>> = match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(list) if list.len() <= MAX_LIST => {
                list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        };
        match texts.filter(|texts| !texts.is_empty()) {
            Some(texts) => Ok(Some(texts)),
            None => self.expected(key, "a list of strings", value),
        }
    }

    /// An object, or its `type` word alone.
    pub(super) fn object(&mut self, key: &'static str) -> Result<Option<Parameters<'a>>, DeclarationError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(self.nested(map, key))),
            Some(value) => self.expected(key, "an object", value),
        }
    }

    /// A list of objects.
    pub(super) fn objects(&mut self, key: &'static str) -> Result<Vec<Parameters<'a>>, DeclarationError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Value::Array(list) = value else { return self.expected(key, "a list of objects", value) };
        let element = |(index, element): (usize, &'a Value)| match element {
            Value::Object(map) => Ok(self.nested(map, &format!("{key}[{index}]"))),
            other => self.expected(&format!("{key}[{index}]"), "an object", other),
        };
        list.iter().enumerate().map(element).collect()
    }

    /// Refuses every key that was never asked for.
    pub(super) fn finish(self) -> Result<(), DeclarationError> {
        match self.map.keys().find(|key| !self.known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(DeclarationError::Key { key: self.path_of(key), known: self.known }),
        }
    }

    /// The keys asked for so far.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }
}
