//! Plans: a graph under a scheme, lowered and packed for this machine, run one sample at a time.
//!
//! Never here: goals, other workers, files. A plan is local: it is never sent and never stored.

mod buffer;
mod cache;
mod chain;
mod general;
mod instruction;
mod layout;
mod lower;
mod observe;
mod part;
mod precision;
mod rearrange;
mod share;

pub use buffer::PortBuffer;
pub use cache::PackedCache;
pub use layout::{Layout, Placement};
pub use observe::Observation;
pub use share::Fork;

use buffer::{Arena, BufferId, BufferSpec, Stored};
use holdfast_common::Digest;
use holdfast_common::graph::{DataType, Graph, OpId, TensorData, TensorId};
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_kernels::Isa;
use instruction::Instruction;
use lower::Shown;
use ndarray::{ArrayD, IxDyn};
use precision::Precision;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

/// A plan cannot be made, or a sample cannot be run through it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The engine has no kernel for an operation in this form.
    #[error("operation `{operation}` ({kind}) cannot be run: {problem}")]
    Unsupported {
        /// Operation name.
        operation: String,
        /// Operator name.
        kind: &'static str,
        /// What is missing, and what could be done.
        problem: String,
    },
    /// The scheme does not fit the graph.
    #[error("the scheme does not fit the model: {problem}")]
    Scheme {
        /// What does not fit.
        problem: String,
    },
    /// A sample has another number of values than the model input takes.
    #[error("model input `{input}` takes {expected} values of shape {shape:?}, the sample has {found}")]
    Input {
        /// Input name.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values it takes.
        expected: usize,
        /// Values there are.
        found: usize,
    },
    /// A sample has another element type than the model input takes.
    #[error("model input `{input}` takes {expected} values, the sample has {found}")]
    InputType {
        /// Input name.
        input: String,
        /// What it takes.
        expected: DataType,
        /// What there is.
        found: DataType,
    },
    /// An index computed from the sample is not one of the axis it selects from.
    #[error("operation `{operation}` selects element {index} of {extent}; the sample does not suit the model")]
    Index {
        /// The operation.
        operation: String,
        /// The index.
        index: i64,
        /// Extent of the axis.
        extent: usize,
    },
}

impl From<general::IndexFault> for PlanError {
    fn from(fault: general::IndexFault) -> PlanError {
        PlanError::Index { operation: fault.operation, index: fault.index, extent: fault.extent }
    }
}

/// Which model a plan is for.
#[derive(Clone, Copy, Debug)]
pub enum Variant<'a> {
    /// The float model.
    Baseline,
    /// A scheme with some groups reverted.
    Quantized {
        /// The scheme.
        scheme: &'a Scheme,
        /// Its digest, under which packed weights are shared.
        digest: Digest,
        /// Reverted groups.
        reverted: &'a BTreeSet<GroupId>,
    },
}

/// A model input or output, or an observed tensor, in the plan's memory.
#[derive(Clone, Debug)]
pub struct Port {
    /// Tensor name.
    pub name: String,
    /// The tensor.
    pub tensor: TensorId,
    /// Its element type.
    pub data_type: DataType,
    /// Where its values lie.
    pub placement: Placement,
    buffer: BufferId,
}

/// A lowered model.
#[derive(Debug)]
pub struct Plan {
    isa: Isa,
    instructions: Vec<Instruction>,
    buffers: Vec<BufferSpec>,
    constants: Vec<(BufferId, Stored)>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    observed: Vec<Port>,
    arenas: Mutex<Vec<Arena>>,
}

impl Plan {
    /// Lowers a graph for one variant and instruction set; `observed` tensors stay readable after a run.
    ///
    /// # Errors
    ///
    /// When an operation has no kernel, or the scheme does not fit.
    pub fn new(
        graph: &Graph,
        variant: Variant<'_>,
        isa: Isa,
        cache: &PackedCache,
        observed: &BTreeSet<TensorId>,
    ) -> Result<Plan, PlanError> {
        Plan::showing(graph, variant, isa, cache, Shown { observed, outputs: true })
    }

    /// [`Plan::new`] for the observed tensors alone: a plan on floats ends where the last of them is computed and has no
    /// outputs.
    ///
    /// # Errors
    ///
    /// When an operation has no kernel, or the scheme does not fit.
    pub fn observing(
        graph: &Graph,
        variant: Variant<'_>,
        isa: Isa,
        cache: &PackedCache,
        observed: &BTreeSet<TensorId>,
    ) -> Result<Plan, PlanError> {
        Plan::showing(graph, variant, isa, cache, Shown { observed, outputs: false })
    }

    fn showing(
        graph: &Graph,
        variant: Variant<'_>,
        isa: Isa,
        cache: &PackedCache,
        shown: Shown<'_>,
    ) -> Result<Plan, PlanError> {
        let (precision, digest) = match variant {
            Variant::Baseline => (Precision::float(), None),
            Variant::Quantized { scheme, digest, reverted } => {
                (Precision::resolve(graph, scheme, reverted)?, Some(digest))
            }
        };
        lower::lower(graph, precision, digest, isa, cache, shown)
    }

    /// The model inputs, in model order, with the layout a sample is to be written in.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Runs one sample. `write` fills each input's buffer by [`Port::placement`]; `read` then looks at the results.
    pub fn run<R, E: From<PlanError>>(
        &self,
        write: impl FnMut(&Port, PortBuffer<'_>) -> Result<(), E>,
        read: impl FnOnce(&Finished<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.execute(write, |arena| {
            share::run(&self.instructions, arena)?;
            read(&Finished { plan: self, arena })
        })
    }

    /// Runs one sample as [`Plan::run`] does and adds the seconds each instruction took to `seconds`, in the order of
    /// [`Plan::instructions`]; the results are not read.
    ///
    /// # Errors
    ///
    /// What `write` returns.
    pub fn run_timed<E: From<PlanError>>(
        &self,
        write: impl FnMut(&Port, PortBuffer<'_>) -> Result<(), E>,
        seconds: &mut Vec<f64>,
    ) -> Result<(), E> {
        seconds.resize(self.instructions.len(), 0.0);
        self.execute(write, |arena| {
            for (instruction, seconds) in self.instructions.iter().zip(seconds) {
                let start = Instant::now();
                instruction.run(arena).map_err(PlanError::from)?;
                *seconds += start.elapsed().as_secs_f64();
            }
            Ok(())
        })
    }

    /// What the plan calls, in order: the kernel's name and the operations it carries out.
    pub fn instructions(&self) -> impl Iterator<Item = (&'static str, &[OpId])> {
        self.instructions.iter().map(|instruction| (instruction.name(), instruction.operations.as_slice()))
    }

    /// Writes the inputs into a free arena, lets `compute` work in it, and keeps it for the next sample.
    fn execute<R, E: From<PlanError>>(
        &self,
        mut write: impl FnMut(&Port, PortBuffer<'_>) -> Result<(), E>,
        compute: impl FnOnce(&mut Arena) -> Result<R, E>,
    ) -> Result<R, E> {
        self.with_arena(true, |arena| {
            for port in &self.inputs {
                write(port, arena.port(port.buffer))?;
            }
            compute(arena)
        })
    }

    /// Runs one sample given as logical tensors of floats.
    ///
    /// # Errors
    ///
    /// When a tensor has another number of values than the model input, or the model takes integers.
    pub fn run_arrays(&self, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>, PlanError> {
        let inputs: Vec<TensorData> = inputs.iter().cloned().map(TensorData::F32).collect();
        self.run_with(&inputs, |finished| finished.outputs())
    }

    /// Runs one sample given as logical tensors; the outputs have the model's element types.
    ///
    /// # Errors
    ///
    /// When a tensor has another number of values or another element type than the model input.
    pub fn run_tensors(&self, inputs: &[TensorData]) -> Result<Vec<TensorData>, PlanError> {
        self.run_with(inputs, |finished| finished.tensors())
    }

    fn run_with<R>(&self, inputs: &[TensorData], read: impl FnOnce(&Finished<'_>) -> R) -> Result<R, PlanError> {
        self.run(
            |port, buffer| {
                let index = self.inputs.iter().position(|other| other.tensor == port.tensor).unwrap_or(0);
                match inputs.get(index) {
                    Some(data) => port.write(data, buffer),
                    None => Err(port.length_error(0)),
                }
            },
            |finished| Ok(read(finished)),
        )
    }

    /// Bytes one thread's arena takes, the constants left out, which all plans of a graph share.
    pub fn arena_bytes(&self) -> usize {
        let constants = self.constants.iter().map(|(buffer, _)| self.buffers[buffer.0].bytes());
        self.buffers.iter().map(BufferSpec::bytes).sum::<usize>() - constants.sum::<usize>()
    }

    /// The operations that are computed on codes.
    pub fn int8_operations(&self) -> BTreeSet<OpId> {
        let int8 = self.instructions.iter().filter(|instruction| instruction.is_int8());
        int8.flat_map(|instruction| instruction.operations.iter().copied()).collect()
    }
}

/// The state after one sample.
pub struct Finished<'a> {
    plan: &'a Plan,
    arena: &'a Arena,
}

impl Port {
    /// Writes one sample's value of this input.
    ///
    /// # Errors
    ///
    /// When the value has another number of elements or another element type.
    pub fn write(&self, data: &TensorData, buffer: PortBuffer<'_>) -> Result<(), PlanError> {
        let found = data.shape().iter().product();
        if found != self.placement.shape.iter().product::<usize>() {
            return Err(self.length_error(found));
        }
        if data.data_type() != self.data_type {
            return Err(PlanError::InputType {
                input: self.name.clone(),
                expected: self.data_type,
                found: data.data_type(),
            });
        }
        match (data, buffer) {
            (TensorData::F32(array), PortBuffer::F32(buffer)) => match array.as_slice() {
                Some(values) => self.placement.write(values, buffer),
                None => self.placement.scatter(array.iter().copied(), buffer),
            },
            (data, PortBuffer::I64(buffer)) => {
                let values = data.to_i64().unwrap_or_default();
                self.placement.scatter(values.into_iter(), buffer);
            }
            _ => unreachable!("a port's buffer is of its own element type"),
        }
        Ok(())
    }

    fn length_error(&self, found: usize) -> PlanError {
        let shape = self.placement.shape.clone();
        PlanError::Input { input: self.name.clone(), expected: shape.iter().product(), shape, found }
    }
}

impl Finished<'_> {
    /// The model outputs as logical tensors of floats, in model order; integers become the nearest floats.
    pub fn outputs(&self) -> Vec<ArrayD<f32>> {
        let output = |port: &Port| match port.data_type {
            DataType::F32 => self.array(port, port.placement.gather(self.arena.f32(port.buffer))),
            _ => self.array(port, self.integers(port).iter().map(|value| *value as f32).collect()),
        };
        self.plan.outputs.iter().map(output).collect()
    }

    /// The model outputs as logical tensors of the model's element types, in model order.
    pub fn tensors(&self) -> Vec<TensorData> {
        let output = |port: &Port| {
            let integers = || self.integers(port).iter();
            match port.data_type {
                DataType::F32 => TensorData::F32(self.array(port, port.placement.gather(self.arena.f32(port.buffer)))),
                DataType::I64 => TensorData::I64(self.array(port, self.integers(port).to_vec())),
                DataType::I32 => TensorData::I32(self.array(port, integers().map(|value| *value as i32).collect())),
                DataType::U8 => TensorData::U8(self.array(port, integers().map(|value| *value as u8).collect())),
                DataType::I8 => TensorData::I8(self.array(port, integers().map(|value| *value as i8).collect())),
                DataType::Bool => TensorData::Bool(self.array(port, integers().map(|value| *value != 0).collect())),
            }
        };
        self.plan.outputs.iter().map(output).collect()
    }

    /// An observed tensor's floats with their placement.
    pub fn observed(&self, tensor: TensorId) -> Option<(&Placement, &[f32])> {
        let port = self.plan.observed.iter().find(|port| port.tensor == tensor)?;
        Some((&port.placement, self.arena.f32(port.buffer)))
    }

    /// Integers are always row-major.
    fn integers(&self, port: &Port) -> &[i64] {
        port.placement.dense(self.arena.i64(port.buffer))
    }

    fn array<T: Clone + Default>(&self, port: &Port, values: Vec<T>) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(&port.placement.shape), values)
            .unwrap_or_else(|_| ArrayD::default(IxDyn(&port.placement.shape)))
    }
}
