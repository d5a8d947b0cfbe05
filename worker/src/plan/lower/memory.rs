//! From values to buffers: values of one element type share them when their lives do not overlap, so that they stay in cache.

use super::{Builder, Mutex, Plan, Port};
use crate::plan::buffer::{BufferId, BufferSpec};
use std::collections::{BTreeSet, HashMap};

/// Buffers with a border up to this size are shared by values of one geometry only: filling their border again would
/// cost more than the cache they take.
const SMALL_BYTES: usize = 64 << 10;

/// One buffer and what lies in it at one time or another.
struct Slot {
    /// Different geometries.
    specs: Vec<BufferSpec>,
    /// Elements of the largest.
    elements: usize,
}

impl Slot {
    /// What is allocated: the first geometry's fill, room for the largest.
    fn spec(&self) -> BufferSpec {
        BufferSpec { elements: self.elements, ..self.specs[0] }
    }

    /// Whether values of other geometries may lie here.
    fn is_open(&self) -> bool {
        self.specs.iter().all(is_open)
    }
}

fn is_open(spec: &BufferSpec) -> bool {
    !spec.has_border() || spec.bytes() > SMALL_BYTES
}

/// The buffers as they are handed out.
#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    home: HashMap<BufferId, BufferId>,
    /// Not in use, the one used last behind the others.
    free: Vec<BufferId>,
}

impl Slots {
    /// The buffer a value lies in; `alone` gives it one that no other value ever has.
    fn settle(&mut self, value: BufferId, spec: &BufferSpec, alone: bool) -> BufferId {
        if let Some(home) = self.home.get(&value) {
            return *home;
        }
        let found = if alone { None } else { self.choose(spec) };
        let home = match found {
            Some(index) => self.free.remove(index),
            None => {
                self.slots.push(Slot { specs: vec![*spec], elements: spec.elements });
                BufferId(self.slots.len() - 1)
            }
        };
        let slot = &mut self.slots[home.0];
        slot.elements = slot.elements.max(spec.elements);
        if !slot.specs.contains(spec) {
            slot.specs.push(*spec);
        }
        self.home.insert(value, home);
        home
    }

    /// Lets a value lie where another one lies that is read for the last time as it is made.
    fn inherit(&mut self, from: BufferId, to: BufferId) {
        if let Some(home) = self.home.get(&from).copied() {
            self.home.insert(to, home);
        }
    }

    /// Which free buffer suits best: one of this geometry, else the smallest that is large enough, else the largest,
    /// which grows.
    fn choose(&self, spec: &BufferSpec) -> Option<usize> {
        let slot = |index: &usize| &self.slots[self.free[*index].0];
        let same = (0..self.free.len()).rev().find(|index| slot(index).specs == [*spec]);
        let open = || {
            let of_kind = |index: &usize| slot(index).is_open() && slot(index).specs[0].kind.is_like(spec.kind);
            let fitting = (0..self.free.len()).rev().filter(of_kind);
            fitting.min_by_key(|index| {
                let elements = slot(index).elements;
                (elements < spec.elements, elements.abs_diff(spec.elements))
            })
        };
        same.or_else(|| if is_open(spec) { open() } else { None })
    }
}

impl Builder<'_> {
    /// Assigns buffers and closes the plan.
    pub(super) fn finish(mut self, inputs: Vec<Port>, outputs: Vec<Port>, observed: Vec<Port>) -> Plan {
        let forever: BTreeSet<BufferId> = self
            .constants
            .iter()
            .map(|(buffer, _)| *buffer)
            .chain(inputs.iter().chain(&outputs).chain(&observed).map(|port| port.buffer))
            .collect();
        self.compose_moves(&forever);
        self.read_through_moves(&forever);
        self.form_chains(&forever);
        let mut last_use = vec![0; self.specs.len()];
        for (index, instruction) in self.instructions.iter().enumerate() {
            for buffer in instruction.inputs.iter().chain(instruction.outputs()) {
                last_use[buffer.0] = index;
            }
        }
        let mut slots = Slots::default();
        for buffer in &forever {
            slots.settle(*buffer, &self.specs[buffer.0], true);
        }
        for (index, instruction) in self.instructions.iter_mut().enumerate() {
            let virtual_inputs = instruction.inputs.clone();
            let virtual_output = instruction.output;
            let inherited = instruction.residual_input().map(|input| virtual_inputs[input]).filter(|residual| {
                let (from, to) = (&self.specs[residual.0], &self.specs[virtual_output.0]);
                let alike = (from.image, from.elements) == (to.image, to.elements)
                    && (from.kind == to.kind || (from.kind.is_like(to.kind) && !from.has_border()));
                let last = last_use[residual.0] == index && !forever.contains(residual);
                let elsewhere = virtual_inputs.iter().filter(|input| *input == residual).count() > 1;
                alike && last && !elsewhere && !forever.contains(&virtual_output)
            });
            if let Some(residual) = inherited.filter(|_| instruction.accumulate()) {
                slots.inherit(residual, virtual_output);
            }
            instruction.output = slots.settle(virtual_output, &self.specs[virtual_output.0], false);
            for more in &mut instruction.more {
                *more = slots.settle(*more, &self.specs[more.0], false);
            }
            let mut released = BTreeSet::new();
            for (slot, buffer) in instruction.inputs.iter_mut().zip(&virtual_inputs) {
                *slot = slots.settle(*buffer, &self.specs[buffer.0], false);
                if last_use[buffer.0] == index && !forever.contains(buffer) && *slot != instruction.output {
                    released.insert(*slot);
                }
            }
            slots.free.extend(released);
            instruction.border = Some(self.specs[virtual_output.0]);
        }
        // A border stays as it was filled first where nothing of another geometry ever lies.
        for instruction in &mut self.instructions {
            let specs = &slots.slots[instruction.output.0].specs;
            instruction.border = instruction.border.filter(|spec| specs.len() > 1 && spec.has_border());
        }
        let Slots { slots, home, .. } = slots;
        let buffers: Vec<BufferSpec> = slots.iter().map(Slot::spec).collect();
        let rename = |mut ports: Vec<Port>| {
            for port in &mut ports {
                port.buffer = home[&port.buffer];
            }
            ports
        };
        Plan {
            inputs: rename(inputs),
            outputs: rename(outputs),
            observed: rename(observed),
            constants: self.constants.iter().map(|(buffer, values)| (home[buffer], values.clone())).collect(),
            isa: self.isa,
            instructions: self.instructions,
            buffers,
            arenas: Mutex::new(Vec::new()),
        }
    }
}
