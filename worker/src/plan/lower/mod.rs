//! Lowering: from graph and precision to instructions, with fusions, layouts and buffers decided.

mod chains;
mod compose;
mod elementwise;
mod forms;
mod fusion;
mod general;
mod memory;
mod moves;
mod pooling;
mod product;
mod spread;
mod tensors;
mod views;

use super::buffer::{BufferId, BufferKind, BufferSpec, Stored};
use super::instruction::{Instruction, Kernel};
use super::layout::{Layout, Placement, can_be_channels_last};
use super::precision::{ParamsId, Precision};
use super::{PackedCache, Plan, PlanError, Port};
use holdfast_common::Digest;
use holdfast_common::graph::{BinaryKind, DataType, Graph, OpId, OpKind, ReduceKind, TensorId};
use holdfast_kernels::Isa;
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// What a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// Floats.
    Real,
    /// Codes under these quant params.
    Codes(ParamsId),
    /// Integers or truth values.
    Int,
}

/// A tensor in one form and layout, in a buffer.
#[derive(Clone, Debug)]
struct Value {
    buffer: BufferId,
    placement: Placement,
}

/// The state of lowering.
struct Builder<'a> {
    graph: &'a Graph,
    precision: Precision<'a>,
    scheme: Option<Digest>,
    isa: Isa,
    cache: &'a PackedCache,
    observed: &'a BTreeSet<TensorId>,
    /// The layout each tensor is made in.
    native: Vec<Layout>,
    /// The border each tensor's readers want.
    border: Vec<[usize; 4]>,
    values: HashMap<(TensorId, Form, Layout), Value>,
    specs: Vec<BufferSpec>,
    constants: Vec<(BufferId, Stored)>,
    instructions: Vec<Instruction>,
    /// Floats that went through a quantizer, for readers without an int8 kernel.
    dequantized: HashMap<(TensorId, ParamsId, Layout), Value>,
    /// Operations whose work an earlier instruction has taken over.
    fused: BTreeSet<OpId>,
    /// Whether operations are lowered a second time, to show the floats of a tensor the plan itself has only in codes.
    aside: bool,
}

/// What a plan shows after a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    /// Tensors that stay readable.
    pub observed: &'a BTreeSet<TensorId>,
    /// Whether the model's outputs are read as well; if not, what only they need is not computed.
    pub outputs: bool,
}

/// Lowers a graph.
pub(super) fn lower(
    graph: &Graph,
    precision: Precision<'_>,
    scheme: Option<Digest>,
    isa: Isa,
    cache: &PackedCache,
    shown: Shown<'_>,
) -> Result<Plan, PlanError> {
    let Shown { observed, outputs } = shown;
    // Codes are fused across tensors that are observed; such plans, which nobody asks for, run to their end.
    let read = if outputs || precision.has_codes() { graph.outputs.as_slice() } else { &[] };
    let needed = needed(graph, read.iter().chain(observed));
    let mut builder = Builder {
        graph,
        precision,
        scheme,
        isa,
        cache,
        observed,
        native: native_layouts(graph),
        border: borders(graph),
        values: HashMap::new(),
        specs: Vec::new(),
        constants: Vec::new(),
        instructions: Vec::new(),
        dequantized: HashMap::new(),
        fused: BTreeSet::new(),
        aside: false,
    };
    let mut inputs = Vec::new();
    for &tensor in &graph.inputs {
        let value = builder.define(tensor, builder.plain_form(tensor));
        inputs.push(builder.port(tensor, value));
    }
    for (id, _) in graph.ops() {
        if needed[id.0] && !builder.fused.contains(&id) {
            builder.operation(id)?;
        }
    }
    let mut outputs = Vec::new();
    for &tensor in read {
        let value = builder.plain(tensor)?;
        outputs.push(builder.port(tensor, value));
    }
    let mut kept = Vec::new();
    for &tensor in observed {
        let value = builder.observed_value(tensor)?;
        kept.push(builder.port(tensor, value));
    }
    Ok(builder.finish(inputs, outputs, kept))
}

/// Which operations these tensors depend on.
fn needed<'a>(graph: &Graph, tensors: impl Iterator<Item = &'a TensorId>) -> Vec<bool> {
    let mut needed = vec![false; graph.ops.len()];
    let producer = |tensor: &TensorId| graph.tensor(*tensor).producer;
    tensors.filter_map(producer).for_each(|id| needed[id.0] = true);
    for (index, op) in graph.ops.iter().enumerate().rev() {
        if needed[index] {
            op.inputs.iter().filter_map(producer).for_each(|id| needed[id.0] = true);
        }
    }
    needed
}

impl Builder<'_> {
    fn port(&self, tensor: TensorId, value: Value) -> Port {
        let of = self.graph.tensor(tensor);
        let Value { placement, buffer } = value;
        Port { name: of.name.clone(), tensor, data_type: of.data_type, placement, buffer }
    }

    /// Lowers one operation that nothing has been fused into an earlier one.
    fn operation(&mut self, id: OpId) -> Result<(), PlanError> {
        let op = self.graph.op(id);
        match &op.kind {
            OpKind::Conv(attributes) => self.convolution(id, attributes),
            OpKind::Gemm { .. } => self.gemm(id),
            OpKind::MatMul => self.matmul(id),
            OpKind::Unary(kind) if self.is_integer(id) => self.integer_unary(id, *kind),
            OpKind::Unary(kind) => self.unary(id, *kind),
            OpKind::Binary(kind) if self.is_integer(id) => self.integer_binary(id, *kind),
            OpKind::Binary(BinaryKind::Add) if self.adds_codes(id) => self.add_codes(id),
            OpKind::Binary(kind) => self.binary(id, *kind),
            OpKind::MaxPool(attributes) => self.max_pool(id, attributes),
            OpKind::AveragePool(attributes) => self.average_pool(id, attributes),
            OpKind::GlobalAveragePool => self.global_average(id),
            OpKind::GlobalMaxPool => self.reduce(id, ReduceKind::Max),
            OpKind::Reduce { kind: ReduceKind::Mean, .. } if self.is_spatial_mean(id) => self.global_average(id),
            OpKind::Reduce { kind, .. } => self.reduce(id, *kind),
            OpKind::Softmax { axis, log } => self.softmax(id, *axis, *log),
            OpKind::ScaleShift => self.scale_shift(id),
            OpKind::LayerNormalization { axis, epsilon } => self.layer_norm(id, *axis, *epsilon),
            OpKind::Resize { mode, coordinates, scales } => self.resize(id, *mode, *coordinates, scales),
            OpKind::Reshape
            | OpKind::Transpose { .. }
            | OpKind::Concat { .. }
            | OpKind::Split { .. }
            | OpKind::Slice { .. }
            | OpKind::Pad { .. }
            | OpKind::Gather { .. }
            | OpKind::Expand
            | OpKind::Tile { .. }
            | OpKind::DepthToSpace { .. } => self.moves(id),
            OpKind::Cast => self.cast(id),
            OpKind::Where => self.choose(id),
            OpKind::ArgMax { axis, least, last, .. } => self.arg_max(id, *axis, *least, *last),
            OpKind::General(kind) => self.tensor_operation(id, kind),
            OpKind::ConvTranspose(attributes) => self.transposed_convolution(id, attributes),
        }
    }

    fn unsupported(&self, id: OpId, problem: impl Into<String>) -> PlanError {
        let op = self.graph.op(id);
        PlanError::Unsupported { operation: op.name.clone(), kind: op.kind.name(), problem: problem.into() }
    }

    fn shape(&self, tensor: TensorId) -> &[usize] {
        &self.graph.tensor(tensor).shape
    }

    fn emit(&mut self, op: OpId, kernel: Kernel, inputs: Vec<BufferId>, output: BufferId) {
        let instruction =
            Instruction { kernel, isa: self.isa, inputs, output, more: Vec::new(), border: None, operations: vec![op] };
        self.instructions.push(instruction);
    }

    /// A new buffer for a tensor in a form, in its native layout.
    fn define(&mut self, tensor: TensorId, form: Form) -> Value {
        self.define_in(tensor, form, self.native[tensor.0])
    }

    /// A new buffer for a tensor in a form and layout.
    fn define_in(&mut self, tensor: TensorId, form: Form, layout: Layout) -> Value {
        let border = if layout == Layout::ChannelsLast { self.border[tensor.0] } else { [0; 4] };
        let (placement, elements) = Placement::new(self.shape(tensor), layout, border);
        let buffer = self.allocate(self.buffer_kind(form), &placement, elements);
        let value = Value { buffer, placement };
        self.values.insert((tensor, form, layout), value.clone());
        value
    }

    fn buffer_kind(&self, form: Form) -> BufferKind {
        match form {
            Form::Real => BufferKind::F32,
            Form::Codes(id) => BufferKind::U8 { fill: self.precision.get(id).zero_point },
            Form::Int => BufferKind::I64,
        }
    }

    /// A new buffer.
    fn allocate(&mut self, kind: BufferKind, placement: &Placement, elements: usize) -> BufferId {
        self.specs.push(BufferSpec { kind, image: placement.image, elements });
        BufferId(self.specs.len() - 1)
    }
}

/// Operations whose kernels want channels last.
fn wants_channels_last(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Conv(_)
            | OpKind::ConvTranspose(_)
            | OpKind::MaxPool(_)
            | OpKind::AveragePool(_)
            | OpKind::GlobalAveragePool
            | OpKind::GlobalMaxPool
            | OpKind::Resize { .. }
            | OpKind::ScaleShift
            | OpKind::DepthToSpace { .. }
    )
}

/// Operations that work in whatever layout their first input has.
fn follows_its_input(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Unary(_)
            | OpKind::Binary(_)
            | OpKind::Concat { .. }
            | OpKind::Split { .. }
            | OpKind::Slice { .. }
            | OpKind::Pad { .. }
            | OpKind::Expand
            | OpKind::Reduce { .. }
    )
}

/// The layout each tensor is made in: channels last around convolutions and pools, row-major elsewhere.
fn native_layouts(graph: &Graph) -> Vec<Layout> {
    let mut layouts = vec![Layout::RowMajor; graph.tensors.len()];
    let wanted = |id: TensorId| {
        graph.tensor(id).consumers.iter().any(|&(op, input)| input == 0 && wants_channels_last(&graph.op(op).kind))
    };
    for &input in &graph.inputs {
        let tensor = graph.tensor(input);
        if tensor.data_type == DataType::F32 && can_be_channels_last(&tensor.shape) && wanted(input) {
            layouts[input.0] = Layout::ChannelsLast;
        }
    }
    for (_, op) in graph.ops() {
        for output in &op.outputs {
            let shape = &graph.tensor(*output).shape;
            let first = op.inputs.iter().find(|input| graph.tensor(**input).constant.is_none());
            let follows = follows_its_input(&op.kind)
                && first.is_some_and(|first| {
                    layouts[first.0] == Layout::ChannelsLast && graph.tensor(*first).shape.len() == shape.len()
                });
            let last = wants_channels_last(&op.kind)
                || follows
                || (matches!(op.kind, OpKind::Transpose { .. } | OpKind::Reshape | OpKind::Gather { .. })
                    && wanted(*output));
            let is_float = graph.tensor(*output).data_type == DataType::F32;
            if last && is_float && can_be_channels_last(shape) {
                layouts[output.0] = Layout::ChannelsLast;
            }
        }
    }
    layouts
}

/// The widest padding any convolution that reads a tensor wants around it.
fn borders(graph: &Graph) -> Vec<[usize; 4]> {
    let mut borders = vec![[0; 4]; graph.tensors.len()];
    for (_, op) in graph.ops() {
        let OpKind::Conv(attributes) = &op.kind else { continue };
        let (begin, end) = (&attributes.pads_begin, &attributes.pads_end);
        let wanted = match (begin.as_slice(), end.as_slice()) {
            ([left], [right]) => [0, *left, 0, *right],
            ([top, left], [bottom, right]) => [*top, *left, *bottom, *right],
            _ => continue,
        };
        for (have, want) in borders[op.inputs[0].0].iter_mut().zip(wanted) {
            *have = want.max(*have);
        }
    }
    borders
}
