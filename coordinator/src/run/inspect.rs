//! `holdfast inspect`: a model's operations, what would be quantized, in which groups, and why the rest would not.

use super::RunError;
use super::files::load_model;
use crate::cli::InspectArgs;
use crate::config::{ConfigError, load};
use holdfast_common::graph::Graph;
use holdfast_common::model::{Model, SampleShapeError};
use holdfast_core::parameters::Parameters;
use holdfast_core::quantize::explain::{Fate, explain};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// One operation.
#[derive(Serialize)]
struct Row<'a> {
    operation: &'a str,
    kind: &'static str,
    output: &'a [usize],
    macs: u64,
    fate: Fate,
    group: Option<&'a str>,
}

/// What is to be inspected.
pub struct Inspection {
    model: PathBuf,
    parameters: Parameters,
    shapes: BTreeMap<String, Vec<usize>>,
    json: bool,
}

impl Inspection {
    /// Of the arguments, and the configuration they may name.
    pub fn new(args: &InspectArgs) -> Result<Inspection, ConfigError> {
        let (model, parameters) = match (&args.config, &args.model) {
            (Some(config), _) => {
                let request = load(config)?.settled();
                (request.model, request.parameters)
            }
            (None, Some(model)) => (model.clone(), Parameters::default()),
            (None, None) => {
                let problem = "a model or a configuration is needed".to_owned();
                return Err(ConfigError::Option { option: "MODEL", problem });
            }
        };
        Ok(Inspection { model, parameters, shapes: args.shape.iter().cloned().collect(), json: args.json })
    }

    /// Looks; returns a table or JSON.
    pub fn show(&self) -> Result<String, RunError> {
        let model = load_model(&self.model)?;
        let shapes = shapes(&model, &self.shapes)?;
        let graph = model.graph(&shapes).map_err(|source| RunError::Model { path: self.model.clone(), source })?;
        let (placement, fates) = explain(&graph, &self.parameters.quantization, self.parameters.mode)?;
        let group_of: BTreeMap<&str, &str> = placement
            .groups
            .iter()
            .flat_map(|group| group.operations.iter().map(|name| (name.as_str(), group.name.as_str())))
            .collect();
        let rows: Vec<Row<'_>> = graph
            .ops()
            .zip(fates)
            .map(|((id, op), fate)| {
                let output = op.outputs.first().map_or([].as_slice(), |output| graph.tensor(*output).shape.as_slice());
                let group = group_of.get(op.name.as_str()).copied();
                Row { operation: &op.name, kind: op.kind.name(), output, macs: graph.macs(id), fate, group }
            })
            .collect();
        if self.json {
            let mut text = serde_json::to_string_pretty(&rows)
                .map_err(|source| RunError::Json { what: "the inspection", source })?;
            text.push('\n');
            return Ok(text);
        }
        Ok(table(&rows, &graph, placement.groups.len()))
    }
}

/// Extents of one sample: those given, else the model's with a batch of 1.
fn shapes(model: &Model, given: &BTreeMap<String, Vec<usize>>) -> Result<BTreeMap<String, Vec<usize>>, RunError> {
    if let Some(name) = given.keys().find(|name| !model.inputs().iter().any(|input| &input.name == *name)) {
        let known = model.inputs().iter().map(|input| input.name.clone()).collect();
        return Err(RunError::UnknownInput { name: name.clone(), known });
    }
    let mut shapes = BTreeMap::new();
    for input in model.inputs() {
        let own = |(axis, extent): (usize, &Option<usize>)| match (axis, extent) {
            (_, Some(extent)) => Ok(*extent),
            (0, None) => Ok(1),
            (axis, None) => Err(RunError::Shapes(SampleShapeError::Free { input: input.name.clone(), axis })),
        };
        let shape = match given.get(&input.name) {
            Some(shape) => shape.clone(),
            None => input.dims.iter().enumerate().map(own).collect::<Result<Vec<usize>, RunError>>()?,
        };
        shapes.insert(input.name.clone(), shape);
    }
    Ok(shapes)
}

fn table(rows: &[Row<'_>], graph: &Graph, groups: usize) -> String {
    let mut text = String::new();
    let shape = |row: &Row<'_>| row.output.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let what = |row: &Row<'_>| match (row.fate, row.group) {
        (Fate::Quantized, Some(group)) => format!("int8, group {group}"),
        (Fate::Quantized, None) => "int8".to_owned(),
        (Fate::CarriesCodes, _) => "carries codes".to_owned(),
        (Fate::Float(reason), _) => format!("float: {}", reason.text()),
    };
    let width =
        |measure: &dyn Fn(&Row<'_>) -> usize, least: usize| rows.iter().map(measure).max().unwrap_or(0).max(least);
    let name = width(&|row| row.operation.chars().count(), 9);
    let kind = width(&|row| row.kind.len(), 4);
    let output = width(&|row| shape(row).len(), 6);
    let _ =
        writeln!(text, "{:<name$}  {:<kind$}  {:<output$}  {:>13}  precision", "operation", "kind", "output", "MACs");
    for row in rows {
        let (operation, macs) = (row.operation, row.macs);
        let _ = writeln!(
            text,
            "{operation:<name$}  {:<kind$}  {:<output$}  {macs:>13}  {}",
            row.kind,
            shape(row),
            what(row)
        );
    }
    let quantized = rows.iter().filter(|row| row.fate == Fate::Quantized);
    let (count, macs) = quantized.fold((0, 0), |(count, macs), row| (count + 1, macs + row.macs));
    let all: u64 = rows.iter().map(|row| row.macs).sum();
    let share = if all == 0 { 0.0 } else { 100.0 * macs as f64 / all as f64 };
    let _ = writeln!(
        text,
        "\n{count} of {} operations in int8, in {groups} groups; {share:.1} % of {all} multiply-accumulate operations",
        graph.ops.len()
    );
    text
}
