//! Neighbouring element-wise operations and row functions become chains, see [`Chain`].

use super::Builder;
use crate::plan::buffer::BufferId;
use crate::plan::chain::{Chain, LEN_MAX, Place, RightOperand, Source, Step, Store};
use crate::plan::instruction::{Instruction, Kernel, Operand};
use holdfast_kernels::Image;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Results that one chain may hand on.
const OUTPUTS_MAX: usize = 4;

/// How an instruction reads one of its inputs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Row by row, this many floats each.
    Rows(usize),
    /// All of it for every row, or codes: never from within the chain.
    Whole,
}

/// What a chain has to know of an instruction.
struct Link {
    rows: usize,
    /// The longest row it reads or writes.
    len: usize,
    roles: Vec<Role>,
}

/// Instructions that will be one chain.
struct Group {
    members: Vec<usize>,
    rows: usize,
    len: usize,
}

impl Group {
    fn takes(&self, link: &Link) -> bool {
        self.rows == link.rows && (self.len == link.len || self.len == 1 || link.len == 1)
    }
}

impl Builder<'_> {
    /// Joins instructions to chains where nobody needs what lies between before the last of them.
    pub(super) fn form_chains(&mut self, forever: &BTreeSet<BufferId>) {
        let links: Vec<Option<Link>> = self.instructions.iter().map(link).collect();
        let mut readers: HashMap<BufferId, Vec<usize>> = HashMap::new();
        for (index, instruction) in self.instructions.iter().enumerate() {
            instruction.inputs.iter().for_each(|buffer| readers.entry(*buffer).or_default().push(index));
        }
        let readers = |buffer: &BufferId| readers.get(buffer).map_or(&[][..], Vec::as_slice);
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of: HashMap<usize, usize> = HashMap::new();
        let mut maker: HashMap<BufferId, usize> = HashMap::new();
        for (index, instruction) in self.instructions.iter().enumerate() {
            maker.insert(instruction.output, index);
            let Some(link) = &links[index] else { continue };
            let group_at = |buffer: &BufferId| maker.get(buffer).and_then(|made| group_of.get(made)).copied();
            let may_join = |group: usize| {
                let Group { members, .. } = &groups[group];
                let inside = |reader: usize| reader == index || members.contains(&reader);
                let mut roles = instruction.inputs.iter().zip(&link.roles);
                let row_by_row = roles.all(|(buffer, role)| *role != Role::Whole || group_at(buffer) != Some(group));
                let nobody_waits = members.iter().all(|member| {
                    readers(&self.instructions[*member].output).iter().all(|reader| inside(*reader) || *reader > index)
                });
                let leaves = |member: &&usize| {
                    let output = &self.instructions[**member].output;
                    forever.contains(output) || readers(output).iter().any(|reader| !inside(*reader))
                };
                let outputs = 1 + members.iter().filter(leaves).count();
                groups[group].takes(link) && row_by_row && nobody_waits && outputs <= OUTPUTS_MAX
            };
            let candidates = instruction.inputs.iter().filter_map(group_at);
            let latest = candidates.filter(|group| may_join(*group)).max_by_key(|group| groups[*group].members.last());
            let group = latest.unwrap_or_else(|| {
                groups.push(Group { members: Vec::new(), rows: link.rows, len: link.len });
                groups.len() - 1
            });
            groups[group].members.push(index);
            groups[group].len = groups[group].len.max(link.len);
            group_of.insert(index, group);
        }
        let mut chains: BTreeMap<usize, Instruction> = BTreeMap::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        for group in groups.iter().filter(|group| group.members.len() > 1) {
            let Some(&last) = group.members.last() else { continue };
            let leaves = |member: usize| {
                let output = &self.instructions[member].output;
                forever.contains(output) || readers(output).iter().any(|reader| !group.members.contains(reader))
            };
            chains.insert(last, self.chain(group, leaves));
            gone.extend(&group.members);
        }
        let instructions = std::mem::take(&mut self.instructions).into_iter().enumerate();
        let kept = instructions.filter_map(|(index, instruction)| match chains.remove(&index) {
            Some(chain) => Some(chain),
            None => (!gone.contains(&index)).then_some(instruction),
        });
        self.instructions = kept.collect();
    }

    /// The instruction that does what the members of a group do.
    fn chain(&self, group: &Group, leaves: impl Fn(usize) -> bool) -> Instruction {
        let members: Vec<&Instruction> = group.members.iter().map(|index| &self.instructions[*index]).collect();
        let mut writer = Writer::new(&members);
        let mut stores = Vec::new();
        let mut outputs = Vec::new();
        for (position, instruction) in members.iter().enumerate() {
            let leaving = leaves(group.members[position]);
            if let Kernel::Quantize { quantizer, input, .. } = &instruction.kernel {
                let source = writer.source(instruction.inputs[0], input.channels, position);
                stores.push(Store::Codes(*quantizer, source));
                outputs.push(instruction.output);
                writer.keep(source);
                continue;
            }
            let Some(step) = writer.step(instruction, position) else { continue };
            let source = writer.define(instruction.output, step, position);
            if leaving {
                stores.push(Store::Floats(source));
                outputs.push(instruction.output);
                writer.keep(source);
            }
        }
        let chain = Chain { rows: group.rows, len: group.len, steps: writer.steps, stores, slots: writer.slots };
        Instruction {
            kernel: Kernel::Chain(chain),
            isa: self.isa,
            inputs: writer.inputs,
            output: outputs[0],
            more: outputs.split_off(1),
            border: None,
            operations: members.iter().flat_map(|member| member.operations.iter().copied()).collect(),
        }
    }
}

/// Steps in the making: which slot holds which value, and until when.
struct Writer {
    inputs: Vec<BufferId>,
    steps: Vec<(usize, Step)>,
    slots: usize,
    places: HashMap<BufferId, Source>,
    /// The last member that reads a value.
    last_use: HashMap<BufferId, usize>,
    free: Vec<usize>,
    kept: BTreeSet<usize>,
}

impl Writer {
    fn new(members: &[&Instruction]) -> Writer {
        let mut last_use = HashMap::new();
        for (position, instruction) in members.iter().enumerate() {
            instruction.inputs.iter().for_each(|buffer| {
                last_use.insert(*buffer, position);
            });
        }
        Writer {
            inputs: Vec::new(),
            steps: Vec::new(),
            slots: 0,
            places: HashMap::new(),
            last_use,
            free: Vec::new(),
            kept: BTreeSet::new(),
        }
    }

    fn input(&mut self, buffer: BufferId) -> usize {
        let known = self.inputs.iter().position(|input| *input == buffer);
        known.unwrap_or_else(|| {
            self.inputs.push(buffer);
            self.inputs.len() - 1
        })
    }

    /// Where a value of this width is read; its slot is free again behind its last reader.
    fn source(&mut self, buffer: BufferId, width: usize, position: usize) -> Source {
        let Some(source) = self.places.get(&buffer).copied() else {
            return Source { place: Place::Input(self.input(buffer)), width };
        };
        if let Place::Slot(slot) = source.place
            && self.last_use.get(&buffer) == Some(&position)
            && !self.kept.contains(&slot)
            && !self.free.contains(&slot)
        {
            self.free.push(slot);
        }
        source
    }

    /// Keeps a slot to the end of the block, when it is stored.
    fn keep(&mut self, source: Source) {
        if let Place::Slot(slot) = source.place {
            self.kept.insert(slot);
            self.free.retain(|free| *free != slot);
        }
    }

    /// Gives the result of a step a slot that none of its operands is in.
    fn define(&mut self, buffer: BufferId, step: Step, position: usize) -> Source {
        let operand = |source: &Source, slot: usize| source.place == Place::Slot(slot);
        let reads = |slot: usize| match &step {
            Step::Unary(_, from) | Step::Reduce(_, from) => operand(from, slot),
            Step::Softmax { from, .. } | Step::LayerNorm { from, .. } => operand(from, slot),
            Step::Binary(_, left, RightOperand::Full(right) | RightOperand::Rows(right)) => {
                operand(left, slot) || operand(right, slot)
            }
            Step::Binary(_, left, RightOperand::Scalar { .. } | RightOperand::Channels { .. }) => operand(left, slot),
            Step::Dequantize { .. } => false,
        };
        let slot = match self.free.iter().position(|slot| !reads(*slot)) {
            Some(index) => self.free.swap_remove(index),
            None => {
                self.slots += 1;
                self.slots - 1
            }
        };
        let source = Source { place: Place::Slot(slot), width: step.width() };
        self.steps.push((slot, step));
        self.places.insert(buffer, source);
        if self.last_use.get(&buffer).is_none_or(|last| *last <= position) {
            self.free.push(slot);
        }
        source
    }

    /// The step an instruction is; `None` for what no link stands for.
    fn step(&mut self, instruction: &Instruction, position: usize) -> Option<Step> {
        let inputs = &instruction.inputs;
        Some(match &instruction.kernel {
            Kernel::Unary { function, input, .. } => {
                Step::Unary(*function, self.source(inputs[0], input.channels, position))
            }
            Kernel::Binary { function, left, right, .. } => {
                let left = self.source(inputs[0], left.channels, position);
                let right = match right {
                    Operand::Full(image) => RightOperand::Full(self.source(inputs[1], image.channels, position)),
                    Operand::Pixels(_) => RightOperand::Rows(self.source(inputs[1], 1, position)),
                    Operand::Scalar(at) => RightOperand::Scalar { input: self.input(inputs[1]), at: *at },
                    Operand::Channels(first) => RightOperand::Channels { input: self.input(inputs[1]), first: *first },
                };
                Step::Binary(*function, left, right)
            }
            Kernel::ReduceRows { kind, len, .. } => Step::Reduce(*kind, self.source(inputs[0], *len, position)),
            Kernel::Softmax { log, input, .. } => {
                Step::Softmax { log: *log, from: self.source(inputs[0], input.channels, position) }
            }
            Kernel::LayerNorm { epsilon, len, .. } => {
                let from = self.source(inputs[0], *len, position);
                let gamma_beta = [self.input(inputs[1]), self.input(inputs[2])];
                Step::LayerNorm { epsilon: *epsilon, from, gamma_beta }
            }
            Kernel::Dequantize { params, output, .. } => {
                Step::Dequantize { params: *params, input: self.input(inputs[0]), width: output.channels }
            }
            _ => return None,
        })
    }
}

/// What an instruction is in a chain, if it can be in one.
fn link(instruction: &Instruction) -> Option<Link> {
    let dense = |image: &Image| *image == Image::dense(image.height, image.width, image.channels);
    let (rows, len, roles) = match &instruction.kernel {
        Kernel::Unary { input, output, .. } | Kernel::Quantize { input, output, .. }
            if dense(input) && dense(output) =>
        {
            (output.pixels(), output.channels, vec![Role::Rows(output.channels)])
        }
        Kernel::Dequantize { input, output, .. } if dense(input) && dense(output) => {
            (output.pixels(), output.channels, vec![Role::Whole])
        }
        Kernel::Softmax { input, output, .. } if dense(input) && dense(output) => {
            (output.pixels(), output.channels, vec![Role::Rows(output.channels)])
        }
        Kernel::Binary { left, right, output, .. } if dense(left) && dense(output) => {
            let right = match right {
                Operand::Full(image) if dense(image) => Role::Rows(output.channels),
                Operand::Pixels(image) if dense(image) && image.channels == 1 => Role::Rows(1),
                Operand::Scalar(_) | Operand::Channels(_) => Role::Whole,
                Operand::Full(_) | Operand::Pixels(_) => return None,
            };
            (output.pixels(), output.channels, vec![Role::Rows(output.channels), right])
        }
        Kernel::ReduceRows { rows, len, .. } => (*rows, *len, vec![Role::Rows(*len)]),
        Kernel::LayerNorm { rows, len, .. } => (*rows, *len, vec![Role::Rows(*len), Role::Whole, Role::Whole]),
        _ => return None,
    };
    (rows > 0 && (1..=LEN_MAX).contains(&len)).then_some(Link { rows, len, roles })
}
