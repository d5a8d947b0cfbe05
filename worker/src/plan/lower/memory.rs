//! From values to buffers: two values share one when their lives do not overlap and their kind and geometry are equal.

use super::{Builder, Mutex, Plan, Port};
use crate::plan::buffer::{BufferId, BufferSpec};
use std::collections::{BTreeSet, HashMap};

impl Builder<'_> {
    /// Assigns buffers and closes the plan.
    pub(super) fn finish(mut self, inputs: Vec<Port>, outputs: Vec<Port>, observed: Vec<Port>) -> Plan {
        let forever: BTreeSet<BufferId> = self
            .constants
            .iter()
            .map(|(buffer, _)| *buffer)
            .chain(inputs.iter().chain(&outputs).chain(&observed).map(|port| port.buffer))
            .collect();
        let mut last_use = vec![0; self.specs.len()];
        for (index, instruction) in self.instructions.iter().enumerate() {
            for buffer in instruction.inputs.iter().chain([&instruction.output]) {
                last_use[buffer.0] = index;
            }
        }
        let mut buffers: Vec<BufferSpec> = Vec::new();
        let mut home: HashMap<BufferId, BufferId> = HashMap::new();
        let mut free: HashMap<BufferSpec, Vec<BufferId>> = HashMap::new();
        let mut settle = |buffer: BufferId, free: &mut HashMap<BufferSpec, Vec<BufferId>>| {
            *home.entry(buffer).or_insert_with(|| {
                let spec = self.specs[buffer.0];
                let reused = if forever.contains(&buffer) { None } else { free.get_mut(&spec).and_then(Vec::pop) };
                reused.unwrap_or_else(|| {
                    buffers.push(spec);
                    BufferId(buffers.len() - 1)
                })
            })
        };
        for buffer in &forever {
            settle(*buffer, &mut free);
        }
        for (index, instruction) in self.instructions.iter_mut().enumerate() {
            let virtual_inputs = instruction.inputs.clone();
            let virtual_output = instruction.output;
            instruction.output = settle(virtual_output, &mut free);
            let mut released = BTreeSet::new();
            for (slot, buffer) in instruction.inputs.iter_mut().zip(&virtual_inputs) {
                *slot = settle(*buffer, &mut free);
                if last_use[buffer.0] == index && !forever.contains(buffer) {
                    released.insert(*buffer);
                }
            }
            for buffer in released {
                let home = settle(buffer, &mut free);
                free.entry(self.specs[buffer.0]).or_default().push(home);
            }
        }
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
            instructions: self.instructions,
            buffers,
            arenas: Mutex::new(Vec::new()),
        }
    }
}
