//! Small ONNX models, built node by node.

#![allow(dead_code, reason = "every test binary uses its own part of the builder")]

use holdfast_common::graph::{Graph, TensorData};
use holdfast_common::model::{Model, ModelError};
use holdfast_common::onnx::schema::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use holdfast_common::onnx::{NoExternalData, encode_tensor};
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use std::collections::BTreeMap;

/// A model under construction.
pub struct Build(pub ModelProto);

impl Build {
    pub fn new(opset: i64) -> Build {
        Build(ModelProto {
            ir_version: Some(7),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
            graph: Some(GraphProto { name: Some("test".to_owned()), ..GraphProto::default() }),
            ..ModelProto::default()
        })
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    /// A float input; extent −1 is free.
    pub fn input(mut self, name: &str, dims: &[i64]) -> Build {
        self.graph().input.push(port(name, data_type::FLOAT, Some(dims)));
        self
    }

    pub fn output(mut self, name: &str) -> Build {
        self.graph().output.push(port(name, data_type::FLOAT, None));
        self
    }

    pub fn floats(mut self, name: &str, shape: &[usize], values: &[f32]) -> Build {
        self.graph().initializer.push(encode_tensor(name, &floats(shape, values)));
        self
    }

    /// A float constant whose elements are different and not too tame.
    pub fn weights(self, name: &str, shape: &[usize]) -> Build {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|index| ((index * 37 % 23) as f32 - 11.0) / 8.0).collect();
        self.floats(name, shape, &values)
    }

    pub fn ints(mut self, name: &str, values: &[i64]) -> Build {
        let data = TensorData::I64(ndarray::arr1(values).into_dyn());
        self.graph().initializer.push(encode_tensor(name, &data));
        self
    }

    pub fn node(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Build {
        self.node_with(operator, inputs, outputs, vec![])
    }

    pub fn node_with(
        mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> Build {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph().node.push(NodeProto {
            input: names(inputs),
            output: names(outputs),
            op_type: Some(operator.to_owned()),
            attribute,
            ..NodeProto::default()
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    pub fn load(&self) -> Result<Model, ModelError> {
        Model::load(&self.bytes(), &NoExternalData)
    }

    pub fn model(&self) -> Model {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn import(&self) -> Graph {
        self.model().graph(&BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn refusal(&self) -> String {
        match self.load().and_then(|model| model.graph(&BTreeMap::new())) {
            Ok(_) => panic!("the model was accepted"),
            Err(error) => error.to_string(),
        }
    }
}

pub fn port(name: &str, elem_type: i32, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&extent: &i64| DimensionProto {
        value: (extent >= 0).then_some(DimensionValue::DimValue(extent)),
        ..DimensionProto::default()
    };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(elem_type), shape });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type, denotation: None }),
        doc_string: None,
    }
}

pub fn floats(shape: &[usize], values: &[f32]) -> TensorData {
    TensorData::F32(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap())
}

pub fn decode(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}

/// Operator names in the order of the file.
pub fn operators(model: &ModelProto) -> Vec<&str> {
    model.graph.as_ref().unwrap().node.iter().map(|node| node.op_type()).collect()
}
