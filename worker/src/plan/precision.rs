//! Who reads codes and who reads floats: a scheme with some groups reverted, resolved onto a graph.

use super::PlanError;
use holdfast_common::graph::{Graph, OpId, OpKind, TensorId};
use holdfast_common::scheme::{GroupId, QuantParams, QuantizerSite, Scheme};
use holdfast_kernels::int8::CodeParams;
use ndarray::ArrayD;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Index into [`Precision::params`]; equal indices mean equal codes for equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamsId(pub usize);

/// What every operation reads.
#[derive(Debug, Default)]
pub struct Precision<'a> {
    /// All distinct activation quant params.
    pub params: Vec<CodeParams>,
    /// Codes read at (operation, input position); what is missing reads floats.
    edges: BTreeMap<(OpId, usize), ParamsId>,
    /// Weight quant params at (operation, input position).
    weights: BTreeMap<(OpId, usize), &'a QuantParams>,
    /// Corrected biases.
    biases: HashMap<&'a str, &'a [f32]>,
    /// Tuned codes of weights.
    tuned: HashMap<&'a str, &'a [i8]>,
    /// Corrected biases of products without a bias input, at the (addition, input position) that has them.
    addends: BTreeMap<(OpId, usize), &'a [f32]>,
}

impl<'a> Precision<'a> {
    /// Everything float.
    pub fn float() -> Precision<'a> {
        Precision::default()
    }

    /// Resolves a scheme.
    ///
    /// # Errors
    ///
    /// When the scheme names operations or tensors the graph does not have, or quantizes activations in a way codes
    /// cannot carry (per channel).
    pub fn resolve(graph: &Graph, scheme: &'a Scheme, reverted: &BTreeSet<GroupId>) -> Result<Self, PlanError> {
        let mut precision = Precision::default();
        let ops: HashMap<&str, OpId> = graph.ops().map(|(id, op)| (op.name.as_str(), id)).collect();
        let find = |name: &str| {
            ops.get(name)
                .copied()
                .ok_or_else(|| PlanError::Scheme { problem: format!("operation `{name}` is not in the model") })
        };
        for quantizer in scheme.quantizers.iter().filter(|quantizer| !reverted.contains(&quantizer.group)) {
            match &quantizer.site {
                QuantizerSite::Activation { tensor, readers } => {
                    let id = precision.intern(code_params(tensor, &quantizer.params)?);
                    for (operation, input) in readers {
                        let op = find(operation)?;
                        check_reader(graph, op, *input, tensor)?;
                        precision.edges.insert((op, *input), id);
                    }
                }
                QuantizerSite::Weight { tensor, operation, input } => {
                    let op = find(operation)?;
                    check_reader(graph, op, *input, tensor)?;
                    precision.weights.insert((op, *input), &quantizer.params);
                }
            }
        }
        let reverted_operations: BTreeSet<&str> = reverted
            .iter()
            .filter_map(|id| scheme.group(*id))
            .flat_map(|group| group.operations.iter().map(String::as_str))
            .collect();
        for (name, bias) in scheme.biases.iter().filter(|(name, _)| !reverted_operations.contains(name.as_str())) {
            let product = ops.get(name.as_str()).filter(|id| matches!(graph.op(**id).kind, OpKind::MatMul));
            let Some(product) = product else {
                precision.biases.insert(name, bias);
                continue;
            };
            let addition = graph.addition_behind(*product).filter(|(addition, position)| {
                graph.constant_input(*addition, *position).and_then(|values| values.as_f32()).map(ArrayD::len)
                    == Some(bias.len())
            });
            let Some(addition) = addition else {
                let problem = format!("`{name}` has no addition of {} constants behind it", bias.len());
                return Err(PlanError::Scheme { problem });
            };
            precision.addends.insert(addition, bias);
        }
        let active = scheme.codes.iter().filter(|(name, _)| !reverted_operations.contains(name.as_str()));
        precision.tuned = active.map(|(name, codes)| (name.as_str(), codes.as_slice())).collect();
        precision.carry_codes_on(graph);
        Ok(precision)
    }

    /// Codes that enter a move-only operation come out of it, to be read by whoever reads its output.
    fn carry_codes_on(&mut self, graph: &Graph) {
        for (id, op) in graph.ops().filter(|(_, op)| op.kind.only_moves_values()) {
            let data_inputs =
                if matches!(op.kind, holdfast_common::graph::OpKind::Gather { .. }) { 1 } else { op.inputs.len() };
            let mut codes = (0..data_inputs).map(|position| self.edges.get(&(id, position)).copied());
            let Some(Some(first)) = codes.next() else { continue };
            if !codes.all(|other| other == Some(first)) {
                continue;
            }
            for output in &op.outputs {
                for &(reader, position) in &graph.tensor(*output).consumers {
                    self.edges.entry((reader, position)).or_insert(first);
                }
            }
        }
    }

    fn intern(&mut self, params: CodeParams) -> ParamsId {
        let known = self.params.iter().position(|known| *known == params);
        ParamsId(known.unwrap_or_else(|| {
            self.params.push(params);
            self.params.len() - 1
        }))
    }

    /// The codes an operation reads at an input, if it reads codes.
    pub fn codes(&self, op: OpId, input: usize) -> Option<ParamsId> {
        self.edges.get(&(op, input)).copied()
    }

    /// Whether anything reads codes; a scheme of weights alone makes everything read floats.
    pub fn has_codes(&self) -> bool {
        !self.edges.is_empty()
    }

    /// The quant params of a constant input, if it is quantized.
    pub fn weights(&self, op: OpId, input: usize) -> Option<&'a QuantParams> {
        self.weights.get(&(op, input)).copied()
    }

    /// The corrected bias of an operation, if it has one.
    pub fn bias(&self, operation: &str) -> Option<&'a [f32]> {
        self.biases.get(operation).copied()
    }

    /// The tuned codes of an operation's weights, if it has some.
    pub fn tuned(&self, operation: &str) -> Option<&'a [i8]> {
        self.tuned.get(operation).copied()
    }

    /// What an addition adds instead of its constant, if that is the corrected bias of a product.
    pub fn addend(&self, op: OpId, input: usize) -> Option<&'a [f32]> {
        self.addends.get(&(op, input)).copied()
    }

    /// The quant params behind an id.
    pub fn get(&self, id: ParamsId) -> CodeParams {
        self.params[id.0]
    }

    /// When every reader of a tensor reads the same codes and nobody needs floats: these codes.
    pub fn sole_codes(&self, graph: &Graph, tensor: TensorId) -> Option<ParamsId> {
        if graph.outputs.contains(&tensor) {
            return None;
        }
        let mut readers = graph.tensor(tensor).consumers.iter().map(|&(op, input)| self.codes(op, input));
        let first = readers.next()??;
        readers.all(|other| other == Some(first)).then_some(first)
    }
}

fn code_params(tensor: &str, params: &QuantParams) -> Result<CodeParams, PlanError> {
    let refuse = |problem: String| PlanError::Scheme { problem: format!("activation `{tensor}`: {problem}") };
    let ([scale], [zero_point]) = (params.scales.as_slice(), params.zero_points.as_slice()) else {
        return Err(refuse("codes have one scale per tensor; ask for per-tensor activations".to_owned()));
    };
    let code = |value: i32| u8::try_from(value).map_err(|_| refuse(format!("code {value} is outside 0…255")));
    if !(scale.is_finite() && *scale > 0.0) {
        return Err(refuse(format!("scale {scale} is not a positive number")));
    }
    let (zero_point, lo, hi) = (code(*zero_point)?, code(params.code_min)?, code(params.code_max)?);
    if !(lo..=hi).contains(&zero_point) || lo == hi {
        return Err(refuse(format!(
            "zero point {zero_point} is not one of the codes {lo} to {hi}, or these are too few"
        )));
    }
    Ok(CodeParams { scale: *scale, zero_point, lo, hi })
}

/// Whether an operation reads the tensor that the scheme says it reads.
fn check_reader(graph: &Graph, op: OpId, input: usize, tensor: &str) -> Result<(), PlanError> {
    let found = graph.op(op).inputs.get(input).map(|id| graph.tensor(*id).name.as_str());
    if found == Some(tensor) {
        return Ok(());
    }
    let name = &graph.op(op).name;
    Err(PlanError::Scheme {
        problem: match found {
            Some(found) => format!("input {input} of operation `{name}` is `{found}`, the scheme quantizes `{tensor}`"),
            None => format!("operation `{name}` has no input {input}, where the scheme quantizes `{tensor}`"),
        },
    })
}
