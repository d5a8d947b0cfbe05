//! Element types and constant values.

use ndarray::ArrayD;
use std::fmt;

/// Element types that graphs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    /// 32-bit float.
    F32,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// Boolean.
    Bool,
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataType::F32 => "float32",
            DataType::I64 => "int64",
            DataType::I32 => "int32",
            DataType::U8 => "uint8",
            DataType::I8 => "int8",
            DataType::Bool => "bool",
        })
    }
}

/// A constant's value, row-major in the tensor's ONNX layout.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats (float16, bfloat16 and float64 initializers are converted on load).
    F32(ArrayD<f32>),
    /// 64-bit integers.
    I64(ArrayD<i64>),
    /// 32-bit integers.
    I32(ArrayD<i32>),
    /// Unsigned bytes.
    U8(ArrayD<u8>),
    /// Signed bytes.
    I8(ArrayD<i8>),
    /// Booleans.
    Bool(ArrayD<bool>),
}

impl TensorData {
    /// The element type.
    pub fn data_type(&self) -> DataType {
        match self {
            TensorData::F32(_) => DataType::F32,
            TensorData::I64(_) => DataType::I64,
            TensorData::I32(_) => DataType::I32,
            TensorData::U8(_) => DataType::U8,
            TensorData::I8(_) => DataType::I8,
            TensorData::Bool(_) => DataType::Bool,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            TensorData::F32(array) => array.shape(),
            TensorData::I64(array) => array.shape(),
            TensorData::I32(array) => array.shape(),
            TensorData::U8(array) => array.shape(),
            TensorData::I8(array) => array.shape(),
            TensorData::Bool(array) => array.shape(),
        }
    }

    /// The values when they are 32-bit floats.
    pub fn as_f32(&self) -> Option<&ArrayD<f32>> {
        match self {
            TensorData::F32(array) => Some(array),
            _ => None,
        }
    }

    /// The values as 64-bit integers when they are integers or booleans.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            TensorData::F32(_) => None,
            TensorData::I64(array) => Some(array.iter().copied().collect()),
            TensorData::I32(array) => Some(array.iter().map(|&v| i64::from(v)).collect()),
            TensorData::U8(array) => Some(array.iter().map(|&v| i64::from(v)).collect()),
            TensorData::I8(array) => Some(array.iter().map(|&v| i64::from(v)).collect()),
            TensorData::Bool(array) => Some(array.iter().map(|&v| i64::from(v)).collect()),
        }
    }
}
