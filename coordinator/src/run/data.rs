//! From configured data sets to manifests, workloads and packs that workers can fetch.

use super::RunError;
use crate::artifact::{Artifacts, PackSource};
use crate::cli::ProgressArg;
use crate::config::{AnnotationSource, DataSource, DatasetConfig, Fit, Subsample, annotation_advice};
use crate::dataset::{DatasetError, DatasetRequest, LabelSource, PackReader, SampleSource, Subset, scan};
use crate::terminal::{Progress, ProgressStyle, StageProgress};
use bytes::Bytes;
use holdfast_common::Digest;
use holdfast_common::dataset::{Manifest, PACK_SAMPLES, Preprocessing, PreprocessingStep, ResizeFilter, Truth};
use holdfast_common::evaluation::Workload;
use holdfast_common::metric::MetricSpec;
use holdfast_common::model::{Model, ModelInput};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing::info;

/// A data set that workers can fetch.
pub struct PublishedData {
    /// Its content.
    pub manifest: Manifest,
    /// The manifest's digest.
    pub digest: Digest,
}

struct Packs(PackReader);

impl PackSource for Packs {
    fn read_pack(&self, digest: &Digest) -> Option<io::Result<Bytes>> {
        self.0.index_of(digest).map(|index| self.0.read_pack(index))
    }
}

/// Scans a data set and offers its packs. `labelled` is false where annotations are not wanted.
pub fn publish_data(
    config: &DatasetConfig,
    labelled: bool,
    model: &Model,
    artifacts: &Artifacts,
    progress: ProgressArg,
) -> Result<PublishedData, RunError> {
    let field = model.inputs().first().map_or_else(String::new, |input| input.name.clone());
    let request = DatasetRequest {
        name: config.name.clone(),
        samples: match &config.source {
            DataSource::Folder(folder) => SampleSource::Images { folder: folder.clone(), field },
            DataSource::Listed(source) => SampleSource::Listed { source: source.clone(), field },
            DataSource::Array(path) => SampleSource::Arrays(vec![(field, path.clone())]),
            DataSource::Arrays(paths) => {
                SampleSource::Arrays(paths.iter().map(|(name, path)| (name.clone(), path.clone())).collect())
            }
        },
        labels: match (&config.annotation, labelled) {
            (_, false) => LabelSource::None,
            (None, true) => LabelSource::Inferred,
            (Some(source), true) => {
                labels(source, config.metrics.first().map_or(Truth::Label, |m| m.definition.truth()))
            }
        },
        classes: None,
        subset: match config.subsample {
            None => Subset::All,
            Some(Subsample::Count(count)) => Subset::First(count),
            Some(Subsample::Share(share)) => Subset::Share(share),
        },
    };
    let shown = Mutex::new(Progress::new(ProgressStyle::choose(progress)));
    let show = |done: usize, total: usize| {
        // Whoever finds the terminal busy leaves the news to the next.
        if let Ok(mut shown) = shown.try_lock() {
            let stage = format!("reading {}", config.name);
            // Packs are counted; all but the last hold equally many samples.
            let samples = |packs: usize| (packs * PACK_SAMPLES) as u64;
            let news = StageProgress { stage, done: samples(done), total: samples(total), workers: 1 };
            shown.update(&news, Instant::now());
        }
    };
    let (manifest, reader) = scan(&request, &show)?;
    shown.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    if labelled {
        check_annotations(config, &manifest)?;
    }
    info!(dataset = %manifest.name, samples = manifest.samples.len(), "data set scanned");
    artifacts.add_source(Arc::new(Packs(reader)));
    let digest = artifacts.publish(manifest.to_json()?)?;
    Ok(PublishedData { manifest, digest })
}

/// Refuses data that a metric cannot be computed on, before anything is computed.
fn check_annotations(config: &DatasetConfig, manifest: &Manifest) -> Result<(), DatasetError> {
    for metric in &config.metrics {
        let name = &metric.name;
        let mut pipelines = std::iter::once(&config.preprocessing).chain(config.input_preprocessing.values());
        if metric.definition.is_spatial() && !pipelines.all(|steps| steps.steps.iter().all(|step| step.keeps_places()))
        {
            let problem = format!(
                "metric `{name}` compares places in the image, but preprocessing crops it; resize it to the model's size"
            );
            return Err(DatasetError::Request { dataset: config.name.clone(), problem });
        }
        let needed = metric.definition.truth();
        if let Some(odd) = manifest.samples.iter().find(|sample| sample.annotation.truth() != needed) {
            let (found, needed, advice) = (odd.annotation.kind(), needed.name(), annotation_advice(needed));
            let problem = format!("metric `{name}` needs {needed}, but it carries {found}; {advice}");
            return Err(DatasetError::Sample { sample: odd.name.clone(), problem });
        }
    }
    Ok(())
}

/// How a source of annotations is read, given the kind the metrics need.
fn labels(source: &AnnotationSource, truth: Truth) -> LabelSource {
    match (source, truth) {
        (AnnotationSource::Array(path), _) => LabelSource::Array { path: path.clone(), truth },
        (AnnotationSource::LabelFile(path), Truth::Text) => LabelSource::Texts(path.clone()),
        (AnnotationSource::LabelFile(path), Truth::Mask) => LabelSource::Masks(path.clone()),
        (AnnotationSource::LabelFile(path), Truth::Boxes) => LabelSource::Yolo(Some(path.clone())),
        (AnnotationSource::LabelFile(path), _) => LabelSource::File(path.clone()),
        (AnnotationSource::Coco { file, numbering }, _) => {
            LabelSource::Coco { file: file.clone(), numbering: *numbering }
        }
        (AnnotationSource::Yolo(folder), _) => LabelSource::Yolo(folder.clone()),
    }
}

/// The steps of POT's simplified engine: cut, resize to the model's input, blue first, nothing else.
fn fitting(input: &ModelInput, fit: Fit) -> Result<Preprocessing, RunError> {
    let refuse = || RunError::NoImageInput { input: input.name.clone() };
    let [_, second, third, last] = input.dims[..] else { return Err(refuse()) };
    let is_channels = |extent: Option<usize>| matches!(extent, Some(1 | 3));
    let (channels, height, width) = match fit.channels_first {
        Some(true) => (second, third, last),
        Some(false) => (last, second, third),
        None if is_channels(second) => (second, third, last),
        None => (last, second, third),
    };
    let (Some(channels @ (1 | 3)), Some(height), Some(width)) = (channels, height, width) else {
        return Err(refuse());
    };
    let color = if channels == 1 { PreprocessingStep::Grayscale } else { PreprocessingStep::ReverseChannels };
    let cut = PreprocessingStep::CentralFraction { share: fit.central_fraction };
    let resize = PreprocessingStep::Resize { height, width, filter: ResizeFilter::OpencvLinear };
    Ok(Preprocessing { steps: vec![color, cut, resize] })
}

/// What does not change between candidates: model, data, preprocessing, metrics.
pub fn workload(
    model: &Model,
    model_digest: Digest,
    data: &PublishedData,
    config: &DatasetConfig,
    metrics: Vec<MetricSpec>,
) -> Result<Workload, RunError> {
    let mut preprocessing = BTreeMap::new();
    for input in model.inputs() {
        let steps = match config.fit {
            Some(fit) => fitting(input, fit)?,
            None => config.preprocessing_of(&input.name).clone(),
        };
        preprocessing.insert(input.name.clone(), steps);
    }
    Ok(Workload { model: model_digest, manifest: data.digest, preprocessing, metrics })
}

/// Publishes a workload.
pub fn publish_workload(workload: &Workload, artifacts: &Artifacts) -> Result<Digest, RunError> {
    let json = serde_json::to_vec(workload).map_err(|source| RunError::Json { what: "the workload", source })?;
    Ok(artifacts.publish(json)?)
}
