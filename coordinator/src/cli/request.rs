//! Flags turned into the request a configuration file would have given.

use super::{AlgorithmArg, EngineArg, FilterArg, InputArgs, MethodArgs, ResizeTo};
use crate::config::{
    Algorithm, AnnotationSource, ConfigError, DataSource, DatasetConfig, ImageReader, RunRequest, Steps, model_name,
};
use crate::dataset::is_array_path;
use holdfast_common::dataset::{Preprocessing, PreprocessingStep, ResizeFilter};
use holdfast_common::metric::{MetricDefinition, MetricSpec};
use holdfast_core::parameters::{
    MetricParameters, Parameters, QuantizationParameters, SearchParameters, TensorParameters,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Samples statistics are collected on, and operations ranked on, where nothing is said (POT's template).
const SUBSET_SIZE: usize = 300;

/// Without `method` the model is only measured.
pub(super) fn from_flags(input: &InputArgs, method: Option<&MethodArgs>) -> Result<RunRequest, ConfigError> {
    let refuse = |option, problem: &str| Err(ConfigError::Option { option, problem: problem.to_owned() });
    let Some(model) = &input.model else {
        return refuse("--model", "is needed where there is no --config");
    };
    if input.weights.is_some() {
        return refuse("--weights", "does not go with ONNX, whose models carry their weights or name their files");
    }
    if input.ac_config.is_some() || input.engine.is_some() || input.data_source.is_some() {
        return from_pot_flags(input, model, method);
    }
    let Some(data) = &input.data else {
        return refuse("--data", "is needed where there is no --config");
    };
    let name = match &input.name {
        Some(name) if name.is_empty() || name.contains(['/', '\\']) => {
            return refuse("--name", "should be a plain file name, without `/`");
        }
        Some(name) => name.clone(),
        None => model_name(model),
    };
    let metric = metric(input.metric.as_deref().unwrap_or("accuracy@top1"))?;
    let accuracy_aware = method.is_some_and(|method| method.algorithm != Some(AlgorithmArg::Default));
    let source = source(data);
    if matches!(source, DataSource::Array(_)) && input.labels.is_none() {
        return refuse("--labels", "is needed where --data is an array: class indices as an .npy file");
    }
    let validation = DatasetConfig {
        name: "validation".to_owned(),
        annotation: input.labels.as_deref().map(annotation),
        subsample: None,
        preprocessing: preprocessing(input, &source)?,
        input_preprocessing: BTreeMap::new(),
        fit: None,
        metrics: vec![metric.clone()],
        source,
    };
    let calibration = match &input.calibration_data {
        None => None,
        Some(path) => {
            let source = self::source(path);
            Some(DatasetConfig {
                name: "calibration".to_owned(),
                annotation: None,
                preprocessing: preprocessing(input, &source)?,
                metrics: Vec::new(),
                source,
                ..validation.clone()
            })
        }
    };
    Ok(RunRequest {
        model_name: name,
        model: model.clone(),
        algorithm: if accuracy_aware { Algorithm::AccuracyAwareQuantization } else { Algorithm::DefaultQuantization },
        parameters: method
            .map_or_else(Parameters::default, |method| parameters(method, accuracy_aware, Some(&metric.name))),
        shuffle_data: false,
        annotation_free: None,
        dump_intermediate_model: false,
        threads: None,
        validation,
        calibration,
        warnings: Vec::new(),
    })
}

/// POT's own flags: the configuration its template would be, with the data as accuracy-checker describes them.
fn from_pot_flags(input: &InputArgs, model: &Path, method: Option<&MethodArgs>) -> Result<RunRequest, ConfigError> {
    let refuse = |option, problem: &str| Err(ConfigError::Option { option, problem: problem.to_owned() });
    let is_simplified = input.engine == Some(EngineArg::Simplified);
    let engine = match (&input.ac_config, &input.data_source) {
        (Some(_), _) if is_simplified => {
            return refuse("--ac-config", "does not go with the simplified engine; name the images by --data-source");
        }
        (Some(file), _) => json!({ "config": file }),
        (None, Some(source)) if is_simplified => json!({ "type": "simplified", "data_source": source }),
        (None, Some(_)) => return refuse("--data-source", "belongs to --engine simplified"),
        (None, None) if is_simplified => return refuse("--data-source", "is needed with --engine simplified"),
        (None, None) => return refuse("--ac-config", "is needed with --engine accuracy_checker"),
    };
    // Without a method the model is only measured.
    let wants_default = method.is_none_or(|method| method.algorithm == Some(AlgorithmArg::Default));
    let algorithm = match wants_default {
        true => Algorithm::DefaultQuantization,
        false if is_simplified => {
            return refuse(
                "--engine",
                "simplified has no labels, which accuracy-aware quantization needs; add -q default",
            );
        }
        false => Algorithm::AccuracyAwareQuantization,
    };
    if !wants_default && method.is_some_and(|method| method.max_drop.is_none()) {
        return refuse("--max-drop", "is needed with --quantize accuracy_aware, for instance 0.01");
    }
    let name = input.name.clone().unwrap_or_else(|| model_name(model));
    let text = json!({
        "model": { "model": model, "model_name": name },
        "engine": engine,
        "compression": { "algorithms": [{ "name": algorithm.name(), "params": {} }] },
    });
    let mut request = crate::config::parse(&text.to_string(), "(command line)", Path::new(""))?;
    if let Some(method) = method {
        let metrics = std::mem::take(&mut request.parameters.metrics);
        request.parameters = Parameters { metrics, ..parameters(method, !wants_default, None) };
    }
    Ok(request)
}

fn parameters(method: &MethodArgs, accuracy_aware: bool, metric: Option<&str>) -> Parameters {
    let default = Parameters::default();
    let strategy = method.strategy.map_or(default.search.strategy, Into::into);
    let common = Parameters {
        search: SearchParameters { strategy, ..SearchParameters::default() },
        mode: method.mode.map_or(default.mode, Into::into),
        quantization: quantization(method),
        ..default
    };
    if !accuracy_aware {
        return common;
    }
    Parameters {
        metrics: metric
            .map(|name| MetricParameters { name: name.to_owned(), baseline_value: None })
            .into_iter()
            .collect(),
        maximal_drop: method.max_drop.unwrap_or(common.maximal_drop),
        drop_type: method.drop_type.map_or(common.drop_type, Into::into),
        ranking_subset_size: method.ranking_subset_size.map_or(SUBSET_SIZE, |size| size.get()),
        max_iter_num: method.max_iter_num,
        ..common
    }
}

fn quantization(method: &MethodArgs) -> QuantizationParameters {
    let granularity = method.weights_granularity.map(Into::into);
    QuantizationParameters {
        preset: method.preset.map_or_else(Default::default, Into::into),
        weights: TensorParameters { granularity, ..TensorParameters::default() },
        stat_subset_size: Some(method.stat_subset_size.map_or(SUBSET_SIZE, |size| size.get())),
        ..QuantizationParameters::default()
    }
}

fn source(path: &Path) -> DataSource {
    if is_array_path(path) { DataSource::Array(path.to_owned()) } else { DataSource::Folder(path.to_owned()) }
}

fn annotation(path: &Path) -> AnnotationSource {
    if is_array_path(path) {
        AnnotationSource::Array(path.to_owned())
    } else {
        AnnotationSource::LabelFile(path.to_owned())
    }
}

/// A metric by its type word; accuracy's k is part of it.
fn metric(word: &str) -> Result<MetricSpec, ConfigError> {
    match MetricDefinition::from_parameters(word, &serde_json::Map::new()) {
        Ok(definition) => Ok(MetricSpec { name: definition.default_name(), output: None, definition }),
        Err(error) => Err(ConfigError::Option { option: "--metric", problem: error.to_string() }),
    }
}

fn preprocessing(input: &InputArgs, source: &DataSource) -> Result<Preprocessing, ConfigError> {
    let refuse = |option, problem: &str| Err(ConfigError::Option { option, problem: problem.to_owned() });
    let images = matches!(source, DataSource::Folder(_));
    let image_option = [
        ("--resize", input.resize.is_some()),
        ("--crop", input.crop.is_some()),
        ("--bgr", input.bgr),
        ("--grayscale", input.grayscale),
    ];
    if let Some((option, _)) = image_option.iter().find(|(_, given)| *given && !images) {
        return refuse(option, "needs images, but the samples are arrays");
    }
    if input.resize_filter.is_some() && input.resize.is_none() {
        return refuse("--resize-filter", "means nothing without --resize");
    }
    let mut steps = Steps::new(match (images, input.bgr) {
        (false, _) => ImageReader::Array,
        (true, true) => ImageReader::Bgr,
        (true, false) => ImageReader::Rgb,
    });
    let filter = match input.resize_filter {
        None | Some(FilterArg::PillowBilinear) => ResizeFilter::PillowBilinear,
        Some(FilterArg::PillowBicubic) => ResizeFilter::PillowBicubic,
        Some(FilterArg::OpencvLinear) => ResizeFilter::OpencvLinear,
    };
    match input.resize {
        None => {}
        Some(ResizeTo::Shortest(size)) => steps.push(PreprocessingStep::ResizeShortest { size, filter }),
        Some(ResizeTo::Exact(extent)) => {
            steps.push(PreprocessingStep::Resize { height: extent.height, width: extent.width, filter });
        }
    }
    if let Some(extent) = input.crop {
        steps.push(PreprocessingStep::CenterCrop { height: extent.height, width: extent.width });
    }
    if input.grayscale {
        steps.grayscale();
    }
    if input.scale.is_none() && input.mean.is_empty() && input.std.is_empty() {
        return Ok(steps.finish());
    }
    let scale = input.scale.unwrap_or(1.0);
    if !scale.is_normal() {
        return refuse("--scale", "should be a finite number other than 0");
    }
    let or = |values: &Vec<f32>, default| if values.is_empty() { vec![default] } else { values.clone() };
    let (mean, std) = (or(&input.mean, 0.0), or(&input.std, 1.0));
    if !mean.iter().all(|value| value.is_finite()) {
        return refuse("--mean", "should be finite numbers");
    }
    if !std.iter().all(|value| value.is_normal()) {
        return refuse("--std", "should be finite numbers other than 0");
    }
    if mean.len() > 1 && std.len() > 1 && mean.len() != std.len() {
        return refuse("--std", "should have as many values as --mean, or one");
    }
    steps.normalize(scale, mean, std);
    Ok(steps.finish())
}
