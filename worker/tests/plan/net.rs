//! Small graphs with their schemes, built by hand, and random values to run them on.

use holdfast_common::graph::{
    ConvAttributes, DataType, Graph, Op, OpId, OpKind, PoolAttributes, Tensor, TensorData, TensorId,
};
use holdfast_common::scheme::{
    CodeType, GroupId, QuantParams, Quantizer, QuantizerGroup, QuantizerId, QuantizerSite, Scheme,
};
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, Variant};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A graph and a scheme in the making; quantizers go to the group begun last.
#[derive(Default)]
pub struct Net {
    pub graph: Graph,
    pub scheme: Scheme,
}

impl Net {
    fn tensor(&mut self, name: &str, shape: &[usize], constant: Option<TensorData>) -> TensorId {
        let data_type = constant.as_ref().map_or(DataType::F32, TensorData::data_type);
        self.graph.tensors.push(Tensor {
            name: name.to_owned(),
            data_type,
            shape: shape.to_vec(),
            producer: None,
            consumers: Vec::new(),
            constant: constant.map(Arc::new),
        });
        TensorId(self.graph.tensors.len() - 1)
    }

    pub fn input(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let id = self.tensor(name, shape, None);
        self.graph.inputs.push(id);
        id
    }

    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> TensorId {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap();
        self.tensor(name, shape, Some(TensorData::F32(array)))
    }

    pub fn indices(&mut self, name: &str, values: &[i64]) -> TensorId {
        let array = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.to_vec()).unwrap();
        self.tensor(name, &[values.len()], Some(TensorData::I64(array)))
    }

    /// An operation; its outputs are called as it is, with an index where there are several.
    pub fn op(&mut self, name: &str, kind: OpKind, inputs: &[TensorId], shapes: &[&[usize]]) -> Vec<TensorId> {
        let id = OpId(self.graph.ops.len());
        for (position, input) in inputs.iter().enumerate() {
            self.graph.tensors[input.0].consumers.push((id, position));
        }
        let outputs: Vec<TensorId> = shapes
            .iter()
            .enumerate()
            .map(|(index, shape)| {
                let name = if shapes.len() == 1 { format!("{name}:") } else { format!("{name}:{index}") };
                let output = self.tensor(&name, shape, None);
                self.graph.tensors[output.0].producer = Some(id);
                output
            })
            .collect();
        self.graph.ops.push(Op { name: name.to_owned(), kind, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }

    /// An operation with one output.
    pub fn one(&mut self, name: &str, kind: OpKind, inputs: &[TensorId], shape: &[usize]) -> TensorId {
        self.op(name, kind, inputs, &[shape])[0]
    }

    pub fn output(&mut self, tensor: TensorId) {
        self.graph.outputs.push(tensor);
    }

    /// Begins a group of these operations.
    pub fn group(&mut self, operations: &[&str]) {
        self.scheme.groups.push(QuantizerGroup {
            name: operations[0].to_owned(),
            quantizers: Vec::new(),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
            macs: 0,
        });
    }

    fn quantizer(&mut self, site: QuantizerSite, params: QuantParams) {
        let group = self.scheme.groups.last_mut().unwrap();
        group.quantizers.push(QuantizerId(self.scheme.quantizers.len() as u32));
        let group = GroupId(self.scheme.groups.len() as u32 - 1);
        self.scheme.quantizers.push(Quantizer { site, params, group });
    }

    /// A quantizer on an activation for some of its readers.
    pub fn activation(&mut self, tensor: TensorId, readers: &[(&str, usize)], (scale, zero_point): (f32, u8)) {
        let readers = readers.iter().map(|(name, input)| ((*name).to_owned(), *input)).collect();
        let site = QuantizerSite::Activation { tensor: self.graph.tensor(tensor).name.clone(), readers };
        let params = QuantParams {
            code_type: CodeType::U8,
            code_min: 0,
            code_max: 255,
            axis: None,
            scales: vec![scale],
            zero_points: vec![i32::from(zero_point)],
        };
        self.quantizer(site, params);
    }

    /// A quantizer on an operation's weights.
    pub fn weights(&mut self, operation: &str, axis: usize, scales: &[f32]) {
        let op = self.graph.find_op(operation).unwrap();
        let tensor = self.graph.tensor(self.graph.op(op).inputs[1]).name.clone();
        let site = QuantizerSite::Weight { tensor, operation: operation.to_owned(), input: 1 };
        let params = QuantParams {
            code_type: CodeType::I8,
            code_min: -127,
            code_max: 127,
            axis: Some(axis),
            scales: scales.to_vec(),
            zero_points: vec![0; scales.len()],
        };
        self.quantizer(site, params);
    }

    pub fn plan(&self, isa: Isa, reverted: &BTreeSet<GroupId>) -> Result<Plan, PlanError> {
        self.observing(isa, reverted, &BTreeSet::new())
    }

    pub fn observing(
        &self,
        isa: Isa,
        reverted: &BTreeSet<GroupId>,
        observed: &BTreeSet<TensorId>,
    ) -> Result<Plan, PlanError> {
        let variant = Variant::Quantized { scheme: &self.scheme, digest: self.scheme.digest().unwrap(), reverted };
        Plan::new(&self.graph, variant, isa, &PackedCache::default(), observed)
    }

    /// The first output of the quantized model on every instruction set there is, which must agree on it.
    pub fn run(&self, inputs: &[Vec<f32>]) -> Vec<f32> {
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let output = first_output(self, &self.plan(isa, &BTreeSet::new()).unwrap(), inputs);
            let known = first.get_or_insert_with(|| output.clone());
            assert_bits(&output, known, isa.name());
        }
        first.unwrap()
    }
}

/// A plan's first output on one sample.
pub fn first_output(net: &Net, plan: &Plan, inputs: &[Vec<f32>]) -> Vec<f32> {
    let arrays: Vec<ArrayD<f32>> = net
        .graph
        .inputs
        .iter()
        .zip(inputs)
        .map(|(id, values)| ArrayD::from_shape_vec(IxDyn(&net.graph.tensor(*id).shape), values.clone()).unwrap())
        .collect();
    plan.run_arrays(&arrays).unwrap().swap_remove(0).into_iter().collect()
}

/// Asserts that two lists of floats have the same bits.
pub fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}: element {index}: {found} instead of {expected}");
    }
}

/// Reproducible values in −1…1 (splitmix64); the seed is the test's own and stands in its source.
pub fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..count).map(|_| ((next() >> 40) as f32) / 8_388_608.0 - 1.0).collect()
}

/// A two-dimensional convolution; pads are top, left, bottom, right.
pub fn conv(
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    group: usize,
) -> ConvAttributes {
    ConvAttributes {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads_begin: pads[..2].to_vec(),
        pads_end: pads[2..].to_vec(),
        group,
        output_padding: vec![0, 0],
    }
}

/// A two-dimensional pool; pads are top, left, bottom, right.
pub fn pool(kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4], count_include_pad: bool) -> PoolAttributes {
    PoolAttributes {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: vec![1, 1],
        pads_begin: pads[..2].to_vec(),
        pads_end: pads[2..].to_vec(),
        count_include_pad,
    }
}
