//! Plans: a graph under a scheme, lowered and packed for this machine, run one sample at a time.
//!
//! Never here: goals, other workers, files. A plan is local: it is never sent and never stored.

mod buffer;
mod cache;
mod instruction;
mod layout;
mod lower;
mod observe;
mod part;
mod precision;
mod rearrange;
mod share;

pub use cache::PackedCache;
pub use layout::{Layout, Placement};
pub use observe::Observation;
pub use share::Fork;

use buffer::{Arena, BufferId, BufferSpec};
use holdfast_common::Digest;
use holdfast_common::graph::{DataType, Graph, OpId, TensorId};
use holdfast_common::scheme::{GroupId, Scheme};
use holdfast_kernels::Isa;
use instruction::Instruction;
use lower::Shown;
use ndarray::{ArrayD, IxDyn};
use precision::Precision;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
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
    /// Where its values lie.
    pub placement: Placement,
    buffer: BufferId,
}

/// A lowered model.
#[derive(Debug)]
pub struct Plan {
    instructions: Vec<Instruction>,
    buffers: Vec<BufferSpec>,
    constants: Vec<(BufferId, Arc<Vec<f32>>)>,
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
        for &input in &graph.inputs {
            let tensor = graph.tensor(input);
            if tensor.data_type != DataType::F32 {
                return Err(PlanError::Unsupported {
                    operation: tensor.name.clone(),
                    kind: "model input",
                    problem: format!("{} inputs have no kernels yet; feed float32", tensor.data_type),
                });
            }
        }
        lower::lower(graph, precision, digest, isa, cache, shown)
    }

    /// The model inputs, in model order, with the layout a sample is to be written in.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Runs one sample. `write` fills each input's buffer by [`Port::placement`]; `read` then looks at the results.
    pub fn run<R, E: From<PlanError>>(
        &self,
        write: impl FnMut(&Port, &mut [f32]) -> Result<(), E>,
        read: impl FnOnce(&Finished<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.execute(write, |arena| {
            self.instructions.iter().for_each(|instruction| instruction.run(arena));
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
        write: impl FnMut(&Port, &mut [f32]) -> Result<(), E>,
        seconds: &mut Vec<f64>,
    ) -> Result<(), E> {
        seconds.resize(self.instructions.len(), 0.0);
        self.execute(write, |arena| {
            for (instruction, seconds) in self.instructions.iter().zip(seconds) {
                let start = Instant::now();
                instruction.run(arena);
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
        mut write: impl FnMut(&Port, &mut [f32]) -> Result<(), E>,
        compute: impl FnOnce(&mut Arena) -> Result<R, E>,
    ) -> Result<R, E> {
        self.with_arena(|arena| {
            for port in &self.inputs {
                write(port, arena.f32_mut(port.buffer))?;
            }
            compute(arena)
        })
    }

    /// Runs one sample given as logical tensors.
    ///
    /// # Errors
    ///
    /// When a tensor has another number of values than the model input.
    pub fn run_arrays(&self, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>, PlanError> {
        self.run(
            |port, buffer| {
                let index = self.inputs.iter().position(|other| other.tensor == port.tensor).unwrap_or(0);
                let found = inputs.get(index).map_or(0, ArrayD::len);
                let expected = port.placement.shape.iter().product();
                if found != expected {
                    return Err(PlanError::Input {
                        input: port.name.clone(),
                        shape: port.placement.shape.clone(),
                        expected,
                        found,
                    });
                }
                match inputs[index].as_slice() {
                    Some(values) => port.placement.write(values, buffer),
                    None => port.placement.scatter(inputs[index].iter().copied(), buffer),
                }
                Ok(())
            },
            |finished| Ok(finished.outputs()),
        )
    }

    /// Bytes one thread's arena takes.
    pub fn arena_bytes(&self) -> usize {
        self.buffers.iter().map(BufferSpec::bytes).sum()
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

impl Finished<'_> {
    /// The model outputs as logical tensors, in model order.
    pub fn outputs(&self) -> Vec<ArrayD<f32>> {
        self.plan.outputs.iter().map(|port| self.array(port)).collect()
    }

    /// An observed tensor's floats with their placement.
    pub fn observed(&self, tensor: TensorId) -> Option<(&Placement, &[f32])> {
        let port = self.plan.observed.iter().find(|port| port.tensor == tensor)?;
        Some((&port.placement, self.arena.f32(port.buffer)))
    }

    fn array(&self, port: &Port) -> ArrayD<f32> {
        let values = port.placement.gather(self.arena.f32(port.buffer));
        ArrayD::from_shape_vec(IxDyn(&port.placement.shape), values)
            .unwrap_or_else(|_| ArrayD::zeros(IxDyn(&port.placement.shape)))
    }
}
