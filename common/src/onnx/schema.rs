//! The ONNX messages we read and write, with the published field numbers; fields we never use are left out and skipped.
//!
//! Source: ONNX's published protocol buffer definition (IR version 10). Scalars keep their presence, as that
//! definition distinguishes "absent" from "zero". Subgraphs and non-tensor types are not represented: operators that need
//! them are refused by name.

use bytes::Bytes;
use prost::Message;

/// A whole model file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// Tool that wrote the file.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Version of that tool.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// Name space of the model.
    #[prost(string, optional, tag = "4")]
    pub domain: Option<String>,
    /// Version of the model.
    #[prost(int64, optional, tag = "5")]
    pub model_version: Option<i64>,
    /// Text for people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// The computation.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets the graph relies on.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Named notes.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Functions local to the model.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// Name of a function local to the model; its body is not represented.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Name space.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
}

/// One operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Name space; empty or `ai.onnx` for the standard operators.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// Key.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// Value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// A computation.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Nodes, in topological order.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Text for people.
    #[prost(string, optional, tag = "10")]
    pub doc_string: Option<String>,
    /// Inputs; before IR version 4 the constants are listed here too.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of inner tensors.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Sparse constants; their content is not represented.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

/// A sparse constant, present only so that it can be refused.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the inputs; empty where an optional input is absent.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the outputs; empty where an optional output is not wanted.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// Operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Text for people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// Name space of the operator.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
}

/// A named value of a node.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Float value.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// Integer value.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Text value.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// Tensor value.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// Float list.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integer list.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Text list.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Text for people.
    #[prost(string, optional, tag = "13")]
    pub doc_string: Option<String>,
    /// Which of the values is meant, one of [`attribute_type`].
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
    /// Name of the enclosing function's attribute this one refers to.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
}

/// A named tensor type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Tensor name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Text for people.
    #[prost(string, optional, tag = "3")]
    pub doc_string: Option<String>,
}

/// A type; only tensors are represented.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
    /// Meaning of the type.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// Element type, one of [`data_type`].
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Shape, when it is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// Extents.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One extent: a number, a name, or unknown.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// Number or name.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// Meaning of the axis.
    #[prost(string, optional, tag = "3")]
    pub denotation: Option<String>,
}

/// What is known of an extent.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum DimensionValue {
    /// The number.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// The name.
    #[prost(string, tag = "2")]
    DimParam(String),
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, one of [`data_type`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Values of float tensors.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Values of tensors of narrow integers, booleans and half floats (as bit patterns).
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Values of 64-bit integer tensors.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Values as little-endian bytes, instead of the typed lists.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Values of double tensors.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Text for people.
    #[prost(string, optional, tag = "12")]
    pub doc_string: Option<String>,
    /// Where the values are when they are not in this file: keys `location`, `offset`, `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 when the values are in another file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

/// Element type numbers of `TensorProto.DataType`.
pub mod data_type {
    /// 32-bit float.
    pub const FLOAT: i32 = 1;
    /// Unsigned byte.
    pub const UINT8: i32 = 2;
    /// Signed byte.
    pub const INT8: i32 = 3;
    /// Unsigned 16-bit integer.
    pub const UINT16: i32 = 4;
    /// Signed 16-bit integer.
    pub const INT16: i32 = 5;
    /// Signed 32-bit integer.
    pub const INT32: i32 = 6;
    /// Signed 64-bit integer.
    pub const INT64: i32 = 7;
    /// Text.
    pub const STRING: i32 = 8;
    /// Boolean.
    pub const BOOL: i32 = 9;
    /// IEEE half float.
    pub const FLOAT16: i32 = 10;
    /// 64-bit float.
    pub const DOUBLE: i32 = 11;
    /// Unsigned 32-bit integer.
    pub const UINT32: i32 = 12;
    /// Unsigned 64-bit integer.
    pub const UINT64: i32 = 13;
    /// Upper half of a 32-bit float.
    pub const BFLOAT16: i32 = 16;

    /// The number's name, for messages.
    pub fn name(data_type: i32) -> String {
        match data_type {
            FLOAT => "float32".to_owned(),
            UINT8 => "uint8".to_owned(),
            INT8 => "int8".to_owned(),
            UINT16 => "uint16".to_owned(),
            INT16 => "int16".to_owned(),
            INT32 => "int32".to_owned(),
            INT64 => "int64".to_owned(),
            STRING => "string".to_owned(),
            BOOL => "bool".to_owned(),
            FLOAT16 => "float16".to_owned(),
            DOUBLE => "float64".to_owned(),
            UINT32 => "uint32".to_owned(),
            UINT64 => "uint64".to_owned(),
            BFLOAT16 => "bfloat16".to_owned(),
            other => format!("element type {other}"),
        }
    }
}

/// Numbers of `AttributeProto.AttributeType`.
pub mod attribute_type {
    /// Float.
    pub const FLOAT: i32 = 1;
    /// Integer.
    pub const INT: i32 = 2;
    /// Text.
    pub const STRING: i32 = 3;
    /// Tensor.
    pub const TENSOR: i32 = 4;
    /// Float list.
    pub const FLOATS: i32 = 6;
    /// Integer list.
    pub const INTS: i32 = 7;
    /// Text list.
    pub const STRINGS: i32 = 8;
}

/// `TensorProto.DataLocation`: the values are in another file.
pub const EXTERNAL_LOCATION: i32 = 1;

impl NodeProto {
    /// Whether the operator is one of the standard name space.
    pub fn is_standard(&self) -> bool {
        matches!(self.domain.as_deref(), None | Some("" | "ai.onnx"))
    }

    /// The attribute of this name.
    pub fn find_attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// Takes an attribute out.
    pub fn take_attribute(&mut self, name: &str) -> Option<AttributeProto> {
        let position = self.attribute.iter().position(|attribute| attribute.name.as_deref() == Some(name))?;
        Some(self.attribute.remove(position))
    }

    /// The input at this position, unless it is absent.
    pub fn present_input(&self, position: usize) -> Option<&str> {
        self.input.get(position).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl AttributeProto {
    /// An integer attribute.
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            i: Some(value),
            r#type: Some(attribute_type::INT),
            ..AttributeProto::default()
        }
    }

    /// A float attribute.
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            f: Some(value),
            r#type: Some(attribute_type::FLOAT),
            ..AttributeProto::default()
        }
    }

    /// An integer list attribute.
    pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            ints: values.to_vec(),
            r#type: Some(attribute_type::INTS),
            ..AttributeProto::default()
        }
    }

    /// A text attribute.
    pub fn text(name: &str, value: &str) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            s: Some(Bytes::copy_from_slice(value.as_bytes())),
            r#type: Some(attribute_type::STRING),
            ..AttributeProto::default()
        }
    }

    /// A tensor attribute.
    pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            t: Some(value),
            r#type: Some(attribute_type::TENSOR),
            ..AttributeProto::default()
        }
    }
}

impl ValueInfoProto {
    /// The extents that are known, `None` for the others; `None` altogether when not even the rank is known.
    pub fn dims(&self) -> Option<Vec<Option<usize>>> {
        let shape = self.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        let extent = |dim: &DimensionProto| match &dim.value {
            Some(DimensionValue::DimValue(value)) => usize::try_from(*value).ok(),
            Some(DimensionValue::DimParam(_)) | None => None,
        };
        Some(shape.dim.iter().map(extent).collect())
    }

    /// The element type number.
    pub fn elem_type(&self) -> Option<i32> {
        self.r#type.as_ref()?.tensor_type.as_ref()?.elem_type
    }
}
