//! What a run is asked to do: POT's configuration file, or command-line flags, turned into one validated request.
//!
//! Never here: opening models or data, decisions about quality.

mod annotation;
mod compression;
mod dataset;
mod document;
mod engine;
mod files;
mod holdfast;
mod ignored;
mod json;
mod keys;
mod metric;
mod preprocessing;
mod problem;
mod quantization;
mod request;
mod schema;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod words;
mod yaml;

pub use annotation::annotation_advice;

pub use preprocessing::{ImageReader, Steps};
pub use problem::{ConfigError, InvalidConfig, Problem, render};
pub use request::{Algorithm, AnnotationSource, DataSource, DatasetConfig, Fit, RunRequest, Subsample};
pub use schema::schema;
pub use template::{TemplateFormat, template};

use document::{Findings, Node, Object};
use files::{Parse, parser, read_text};
use keys::{MODEL, ROOT};
use std::path::{Path, PathBuf};

/// Reads and validates a configuration file, JSON or YAML; relative paths in it are taken from its directory.
pub fn load(path: &Path) -> Result<RunRequest, ConfigError> {
    let Some(parse) = parser(path) else {
        let problem = "a configuration's name should end in .json, .yml or .yaml".to_owned();
        return Err(ConfigError::Read { path: path.to_owned(), problem });
    };
    let text = read_text(path)?;
    parse_as(parse, &text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")))
}

/// Validates the text of a configuration; `file` names it in messages, and its ending the language: JSON unless it is
/// `.yml` or `.yaml`.
pub fn parse(text: &str, file: &str, directory: &Path) -> Result<RunRequest, ConfigError> {
    parse_as(parser(Path::new(file)).unwrap_or(json::parse), text, file, directory)
}

fn parse_as(parse: Parse, text: &str, file: &str, directory: &Path) -> Result<RunRequest, ConfigError> {
    let findings = Findings::default();
    let source = findings.parse(file, text, parse);
    let request = source.as_ref().and_then(|source| read_file(&findings.root(source), directory));
    match request {
        Some(mut request) if findings.is_sound() => {
            request.warnings = findings.into_warnings();
            Ok(request)
        }
        _ => Err(ConfigError::Invalid(Box::new(findings.into_invalid()))),
    }
}

/// Reads every section even where one is broken, so that all mistakes are told at once.
fn read_file(root: &Node<'_>, directory: &Path) -> Option<RunRequest> {
    let file = root.section(&ROOT)?;
    let model = file.required("model").and_then(|node| read_model(&node, directory));
    let data =
        file.required("engine").and_then(|node| engine::read_engine(&node, directory, is_annotation_free(&file)));
    let compression = file.required("compression");
    let compression = compression.and_then(|node| compression::read_compression(&node, data.as_ref()));
    let parameters = compression.as_ref().map(|compression| compression.parameters.clone()).unwrap_or_default();
    let parameters =
        file.or("holdfast", parameters.clone(), |node| holdfast::read_holdfast(node, directory, parameters));
    let (model_name, model) = model?;
    let (data, compression) = (data?, compression?);
    Some(RunRequest {
        model_name,
        model,
        algorithm: compression.algorithm,
        parameters: parameters?,
        shuffle_data: compression.shuffle_data,
        annotation_free: compression.annotation_free,
        dump_intermediate_model: compression.dump_intermediate_model,
        threads: data.threads,
        validation: data.validation,
        calibration: data.calibration,
        warnings: Vec::new(),
    })
}

/// Whether labels are to be made, which data sets then need not have; mistakes in this key are told where it is read.
fn is_annotation_free(file: &Object<'_>) -> bool {
    let compression = file.get("compression").map(|node| node.json()).unwrap_or_default();
    compression.pointer("/algorithms/0/params/annotation_free").and_then(|value| value.as_bool()) == Some(true)
}

fn read_model(node: &Node<'_>, directory: &Path) -> Option<(String, PathBuf)> {
    let object = node.section(&MODEL)?;
    let path = object.required("model").and_then(|node| {
        let path = PathBuf::from(node.string()?);
        if path.extension().is_some_and(|extension| extension == "xml") {
            node.refuse("is an OpenVINO model", Some("export the model to ONNX and name the .onnx file here"));
            return None;
        }
        Some(directory.join(path))
    });
    object.without_effect("weights", "an ONNX model carries its weights, or names their files itself");
    if let Some(node) = object.get("cascade") {
        node.unsupported("quantize the models of a cascade one by one");
    }
    let name = match object.get("model_name") {
        Some(node) => node.string().filter(|name| {
            let plain = is_file_name(name);
            if !plain {
                node.refuse("should be a plain file name, without `/`", None);
            }
            plain
        }),
        None => path.as_deref().map(model_name),
    };
    Some((name?, path?))
}

/// The name of a model nobody named: the stem of its file.
pub fn model_name(model: &Path) -> String {
    let stem = model.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| is_file_name(stem)).unwrap_or_else(|| "model".to_owned())
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
