//! Where quantizers stand, which of them share quant params, and which can only change precision together.
//!
//! Every quantizable input asks for a quantizer. It is placed as high as it can go: above pass-through operations all
//! of whose branches end in quantized inputs. Quantizers of several inputs of one tensor are one. Source: POT's
//! placement, restated; groups are connected components of "feeds the same quantized operation", so that they do not
//! depend on where a walk starts.

use super::device::{float_operand, halved, stays_float_in_transformers};
use super::estimators::{RangeEstimator, Target, range_estimator};
use super::ignored::ignored_by_user;
use super::patterns::ignored_by_pattern;
use super::roles::{Role, is_depthwise, role, weight_axis};
use crate::error::CoreError;
use crate::parameters::{Granularity, Mode, ModelType, QuantizationParameters, TargetDevice};
use holdfast_common::graph::{BinaryKind, Graph, OpId, OpKind, TensorId};
use holdfast_common::quantization::params::{Symmetry, TensorClass};
use holdfast_common::scheme::{GroupId, QuantizerGroup, QuantizerId, QuantizerSite};
use std::collections::{BTreeMap, BTreeSet};

/// A quantizer without its quant params.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Where it stands.
    pub site: QuantizerSite,
    /// The tensor it stands on.
    pub tensor: TensorId,
    /// Weights or activations.
    pub class: TensorClass,
    /// Symmetry.
    pub symmetry: Symmetry,
    /// `None` per tensor, else the axis of its slices.
    pub axis: Option<usize>,
    /// How its range is found.
    pub estimator: RangeEstimator,
    /// Whether codes are halved for runtimes that saturate.
    pub halved: bool,
    /// Its group.
    pub group: GroupId,
}

/// All quantizers of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// Quantizers, in graph order of their first reader, then by its input position.
    pub sites: Vec<Site>,
    /// Sets of at least two activation quantizers that must have the same quant params, as indices into `sites`.
    pub unified: Vec<Vec<usize>>,
    /// Groups, in graph order of their first operation.
    pub groups: Vec<QuantizerGroup>,
    /// The quantizer whose codes arrive at each input of the quantized operations, as an index into `sites`; where
    /// several arrive, one of the unified set.
    pub inputs: BTreeMap<(OpId, usize), usize>,
}

/// Places the quantizers of a graph.
pub fn place(graph: &Graph, parameters: &QuantizationParameters, mode: Mode) -> Result<Placement, CoreError> {
    let roles = roles(graph, parameters, mode)?;
    let mut flow = Flow::of(graph, roles);
    if parameters.target_device == TargetDevice::CpuSpr {
        flow = Flow::of(graph, flow.roles_with_float_operands());
    }
    flow.placement(parameters, mode)
}

/// Roles after patterns, model type and the user's wishes.
fn roles(graph: &Graph, parameters: &QuantizationParameters, mode: Mode) -> Result<Vec<Role>, CoreError> {
    let mut ignored = ignored_by_user(graph, &parameters.ignored, mode)?;
    if parameters.ignored.skip_model {
        return Ok(vec![Role::Float; graph.ops.len()]);
    }
    let mut roles: Vec<Role> = graph.ops().map(|(id, _)| role(graph, id)).collect();
    ignored.extend(ignored_by_pattern(graph));
    if parameters.model_type == Some(ModelType::Transformer) {
        let stays_float = |kind| stays_float_in_transformers(kind, parameters.target_device);
        ignored.extend(graph.ops().filter(|(_, op)| stays_float(&op.kind)).map(|(id, _)| id));
    }
    for id in ignored {
        match roles[id.0] {
            Role::Quantizable(_) | Role::Float => roles[id.0] = Role::Float,
            // An ignored pass-through operation means the operations it feeds.
            Role::PassThrough(_) => ignore_readers(graph, &mut roles, id, mode),
        }
    }
    Ok(roles)
}

/// POT ignores the direct readers of an ignored pass-through operation; in default mode, the readers behind further
/// pass-through operations as well.
fn ignore_readers(graph: &Graph, roles: &mut [Role], id: OpId, mode: Mode) {
    let mut open = vec![id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        let readers = graph.op(id).outputs.iter().flat_map(|output| &graph.tensor(*output).consumers);
        for (reader, _) in readers {
            match roles[reader.0] {
                Role::Quantizable(_) => roles[reader.0] = Role::Float,
                Role::PassThrough(_) if mode == Mode::Default && seen.insert(*reader) => open.push(*reader),
                Role::PassThrough(_) | Role::Float => {}
            }
        }
    }
}

/// Where codes flow: which operations carry them on, and where they arise.
struct Flow<'a> {
    graph: &'a Graph,
    roles: Vec<Role>,
    /// Whether the operation passes codes on.
    carries: Vec<bool>,
}

impl<'a> Flow<'a> {
    fn of(graph: &'a Graph, roles: Vec<Role>) -> Flow<'a> {
        let mut flow = Flow { graph, carries: vec![false; roles.len()], roles };
        // Topological order makes every reader known before its producer.
        for index in (0..graph.ops.len()).rev() {
            if matches!(flow.roles[index], Role::PassThrough(_)) {
                let outputs = &graph.ops[index].outputs;
                flow.carries[index] = outputs.iter().any(|output| flow.is_closed(*output))
                    && outputs.iter().all(|output| flow.is_closed(*output) || flow.is_unused(*output));
            }
        }
        flow
    }

    /// Whether an operation reads codes at this input.
    fn reads_codes(&self, op: OpId, position: usize) -> bool {
        match &self.roles[op.0] {
            Role::Quantizable(positions) => positions.contains(&position),
            Role::PassThrough(positions) => self.carries[op.0] && positions.contains(&position),
            Role::Float => false,
        }
    }

    /// Whether nobody needs the float values of a tensor.
    fn is_closed(&self, tensor: TensorId) -> bool {
        let readers = &self.graph.tensor(tensor).consumers;
        !readers.is_empty()
            && !self.graph.outputs.contains(&tensor)
            && readers.iter().all(|(op, position)| self.reads_codes(*op, *position))
    }

    /// Whether nobody needs a tensor at all (a part of a split, say).
    fn is_unused(&self, tensor: TensorId) -> bool {
        self.graph.tensor(tensor).consumers.is_empty() && !self.graph.outputs.contains(&tensor)
    }

    fn placement(&self, parameters: &QuantizationParameters, mode: Mode) -> Result<Placement, CoreError> {
        let mut drafts = self.drafts();
        drafts.sort_by_key(|draft| draft.readers[0]);
        let arriving = self.arriving(&drafts);
        let (unified, unions) = self.unified(&drafts, &arriving);
        let inputs = self.inputs(&drafts, &arriving);
        let (groups, membership) = self.groups(&drafts, &arriving, &inputs);
        let halved = halved(self.graph, parameters, mode);
        let configurations = self.configurations(&drafts, &arriving, &unions, parameters, mode);
        let mut sites = Vec::with_capacity(drafts.len());
        for ((draft, (symmetry, axis)), group) in drafts.into_iter().zip(configurations).zip(membership) {
            let (op, position) = draft.readers[0];
            let channel_axis = match draft.class {
                TensorClass::Activations => Some(1),
                TensorClass::Weights => weight_axis(self.graph, op, position),
            };
            let target = Target { class: draft.class, symmetry, axis, channel_axis };
            sites.push(Site {
                site: self.site(&draft),
                tensor: draft.tensor,
                class: draft.class,
                symmetry,
                axis,
                estimator: range_estimator(parameters, mode, target)?,
                halved: draft.class == TensorClass::Weights && halved.contains(&op),
                group,
            });
        }
        Ok(Placement { sites, unified, groups, inputs })
    }

    /// Quantizers before they are configured.
    fn drafts(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (index, tensor) in self.graph.tensors.iter().enumerate() {
            let readers: Vec<(OpId, usize)> =
                tensor.consumers.iter().copied().filter(|(op, position)| self.reads_codes(*op, *position)).collect();
            let tensor_id = TensorId(index);
            if tensor.constant.is_some() {
                drafts.extend(readers.into_iter().map(|reader| Draft {
                    tensor: tensor_id,
                    class: TensorClass::Weights,
                    readers: vec![reader],
                }));
            } else if !readers.is_empty() && !tensor.producer.is_some_and(|producer| self.carries[producer.0]) {
                drafts.push(Draft { tensor: tensor_id, class: TensorClass::Activations, readers });
            }
        }
        drafts
    }

    /// The roles with one operand of each addition of two quantized activations left float, where the device wants it.
    fn roles_with_float_operands(&self) -> Vec<Role> {
        let drafts = self.drafts();
        let readers = |tensor: TensorId| {
            let quantizer =
                drafts.iter().find(|draft| draft.tensor == tensor && draft.class == TensorClass::Activations);
            quantizer.map(|draft| draft.readers.len())
        };
        let mut roles = self.roles.clone();
        for (id, op) in self.graph.ops() {
            let (OpKind::Binary(BinaryKind::Add), Role::Quantizable(positions)) = (&op.kind, &mut roles[id.0]) else {
                continue;
            };
            let [a, b] = op.inputs[..] else { continue };
            if let (Some(of_a), Some(of_b)) = (readers(a), readers(b))
                && a != b
                && let Some(float) = float_operand(self.graph, id, [of_a, of_b])
            {
                positions.retain(|position| *position != float);
            }
        }
        roles
    }

    /// The quantizers whose codes arrive at each activation tensor, as indices into the drafts.
    fn arriving(&self, drafts: &[Draft]) -> BTreeMap<TensorId, BTreeSet<usize>> {
        let mut arriving: BTreeMap<TensorId, BTreeSet<usize>> = BTreeMap::new();
        for (index, draft) in drafts.iter().enumerate() {
            if draft.class == TensorClass::Activations {
                arriving.entry(draft.tensor).or_default().insert(index);
            }
        }
        for (id, op) in self.graph.ops().filter(|(id, _)| self.carries[id.0]) {
            let Role::PassThrough(positions) = &self.roles[id.0] else { continue };
            let from: BTreeSet<usize> = positions
                .iter()
                .filter_map(|position| arriving.get(&op.inputs[*position]))
                .flatten()
                .copied()
                .collect();
            for output in &op.outputs {
                arriving.entry(*output).or_default().extend(&from);
            }
        }
        arriving
    }

    /// Quantizers whose codes meet in one tensor have the same quant params.
    fn unified(&self, drafts: &[Draft], arriving: &BTreeMap<TensorId, BTreeSet<usize>>) -> (Vec<Vec<usize>>, Union) {
        let mut union = Union::new(drafts.len());
        arriving.values().for_each(|together| union.join_all(together.iter().copied()));
        let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in 0..drafts.len() {
            sets.entry(union.root(index)).or_default().push(index);
        }
        (sets.into_values().filter(|set| set.len() > 1).collect(), union)
    }

    /// One quantizer of every quantized input.
    fn inputs(
        &self,
        drafts: &[Draft],
        arriving: &BTreeMap<TensorId, BTreeSet<usize>>,
    ) -> BTreeMap<(OpId, usize), usize> {
        let mut inputs: BTreeMap<(OpId, usize), usize> = drafts
            .iter()
            .enumerate()
            .filter(|(_, draft)| draft.class == TensorClass::Weights)
            .map(|(index, draft)| (draft.readers[0], index))
            .collect();
        for (id, op) in self.graph.ops() {
            let Role::Quantizable(positions) = &self.roles[id.0] else { continue };
            for position in positions {
                let first = arriving.get(&op.inputs[*position]).and_then(BTreeSet::first);
                inputs.extend(first.map(|index| ((id, *position), *index)));
            }
        }
        inputs
    }

    fn groups(
        &self,
        drafts: &[Draft],
        arriving: &BTreeMap<TensorId, BTreeSet<usize>>,
        inputs: &BTreeMap<(OpId, usize), usize>,
    ) -> (Vec<QuantizerGroup>, Vec<GroupId>) {
        let mut union = Union::new(drafts.len());
        arriving.values().for_each(|together| union.join_all(together.iter().copied()));
        let mut of_operations: BTreeMap<OpId, Vec<usize>> = BTreeMap::new();
        for ((id, _), index) in inputs {
            of_operations.entry(*id).or_default().push(*index);
        }
        of_operations.values().for_each(|quantizers| union.join_all(quantizers.iter().copied()));
        let mut ids: BTreeMap<usize, GroupId> = BTreeMap::new();
        let mut groups: Vec<QuantizerGroup> = Vec::new();
        for (id, quantizers) in &of_operations {
            let name = &self.graph.op(*id).name;
            let group = *ids.entry(union.root(quantizers[0])).or_insert_with(|| {
                groups.push(QuantizerGroup {
                    name: name.clone(),
                    quantizers: Vec::new(),
                    operations: Vec::new(),
                    macs: 0,
                });
                GroupId(groups.len() as u32 - 1)
            });
            groups[group.0 as usize].operations.push(name.clone());
            groups[group.0 as usize].macs += self.graph.macs(*id);
        }
        let membership: Vec<GroupId> = (0..drafts.len()).map(|index| ids[&union.root(index)]).collect();
        for (index, group) in membership.iter().enumerate() {
            groups[group.0 as usize].quantizers.push(QuantizerId(index as u32));
        }
        (groups, membership)
    }

    /// Symmetry and axis of every quantizer: what all of its readers, and those of its unified set, can agree on.
    fn configurations(
        &self,
        drafts: &[Draft],
        arriving: &BTreeMap<TensorId, BTreeSet<usize>>,
        unions: &Union,
        parameters: &QuantizationParameters,
        mode: Mode,
    ) -> Vec<(Symmetry, Option<usize>)> {
        let mut must_be_symmetric = vec![false; drafts.len()];
        let mut can_be_per_channel = vec![true; drafts.len()];
        for (id, op) in self.graph.ops() {
            let Role::Quantizable(positions) = &self.roles[id.0] else { continue };
            let constants = positions.iter().any(|position| self.graph.constant_input(id, *position).is_some());
            let attention = matches!(op.kind, OpKind::MatMul)
                && !constants
                && parameters.model_type == Some(ModelType::Transformer);
            for index in positions.iter().filter_map(|position| arriving.get(&op.inputs[*position])).flatten() {
                must_be_symmetric[unions.root(*index)] |= attention;
                can_be_per_channel[unions.root(*index)] &= is_depthwise(self.graph, id);
            }
        }
        for (index, draft) in drafts.iter().enumerate() {
            // Pass-through operations may move or merge channels, so that per-channel codes would change meaning.
            let carried = draft.readers.iter().any(|(op, _)| self.carries[op.0]);
            can_be_per_channel[unions.root(index)] &= !carried;
        }
        let wanted = parameters.activations.granularity;
        let per_channel = wanted == Some(Granularity::PerChannel) || (wanted.is_none() && mode == Mode::Compat);
        let weight_granularity = parameters.weights.granularity.unwrap_or(Granularity::PerChannel);
        drafts
            .iter()
            .enumerate()
            .map(|(index, draft)| match draft.class {
                TensorClass::Weights => {
                    let (op, position) = draft.readers[0];
                    let axis = weight_axis(self.graph, op, position);
                    let axis = axis.filter(|_| weight_granularity == Granularity::PerChannel);
                    (parameters.symmetry(TensorClass::Weights), axis)
                }
                TensorClass::Activations => {
                    let root = unions.root(index);
                    let symmetry = match must_be_symmetric[root] {
                        true => Symmetry::Symmetric,
                        false => parameters.symmetry(TensorClass::Activations),
                    };
                    (symmetry, (per_channel && can_be_per_channel[root]).then_some(1))
                }
            })
            .collect()
    }

    fn site(&self, draft: &Draft) -> QuantizerSite {
        let name = |op: OpId| self.graph.op(op).name.clone();
        let tensor = self.graph.tensor(draft.tensor).name.clone();
        match draft.class {
            TensorClass::Weights => {
                let (op, input) = draft.readers[0];
                QuantizerSite::Weight { tensor, operation: name(op), input }
            }
            TensorClass::Activations => QuantizerSite::Activation {
                tensor,
                readers: draft.readers.iter().map(|(op, position)| (name(*op), *position)).collect(),
            },
        }
    }
}

/// A quantizer before it is configured; readers are in graph order, at least one.
struct Draft {
    tensor: TensorId,
    class: TensorClass,
    readers: Vec<(OpId, usize)>,
}

/// Disjoint sets; the root of a set is its smallest member.
struct Union {
    parents: Vec<usize>,
}

impl Union {
    fn new(count: usize) -> Union {
        Union { parents: (0..count).collect() }
    }

    fn root(&self, mut index: usize) -> usize {
        while self.parents[index] != index {
            index = self.parents[index];
        }
        index
    }

    fn join_all(&mut self, members: impl IntoIterator<Item = usize>) {
        let mut members = members.into_iter();
        let Some(first) = members.next() else { return };
        for member in members {
            let (a, b) = (self.root(first), self.root(member));
            self.parents[a.max(b)] = a.min(b);
        }
    }
}
