//! ONNX tensors to constant values and back.

use super::schema::{TensorProto, data_type};
use crate::graph::TensorData;
use bytes::Bytes;
use ndarray::{ArrayD, IxDyn};

/// Why a tensor is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// An extent is negative or the number of elements does not fit.
    #[error("shape {dims:?} is not a possible shape")]
    Shape {
        /// The extents.
        dims: Vec<i64>,
    },
    /// The values do not fill the shape.
    #[error("shape {dims:?} needs {expected} {unit}, the file holds {found}: it is truncated or was written wrongly")]
    Length {
        /// The extents.
        dims: Vec<i64>,
        /// What the shape asks for.
        expected: u64,
        /// What is there.
        found: u64,
        /// Elements or bytes.
        unit: &'static str,
    },
    /// An element type we do not compute with.
    #[error("its elements are {0}; convert the model to float32, int64, int32, int8, uint8 or bool elements")]
    ElementType(String),
}

/// Extents, number of elements, and bytes of raw data that a tensor's shape and type ask for.
pub(crate) fn extent(tensor: &TensorProto) -> Result<(Vec<usize>, usize, u64), TensorError> {
    let refuse = || TensorError::Shape { dims: tensor.dims.clone() };
    let shape: Vec<usize> =
        tensor.dims.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>().map_err(|_| refuse())?;
    let elements = element_count(&shape).ok_or_else(refuse)?;
    let width = match tensor.data_type.unwrap_or(0) {
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => 1,
        data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::INT64 | data_type::DOUBLE => 8,
        other => return Err(TensorError::ElementType(data_type::name(other))),
    };
    let bytes = (elements as u64).checked_mul(width).ok_or_else(refuse)?;
    Ok((shape, elements, bytes))
}

/// The number of elements of a shape, if it fits the address space (zero extents do not hide an overflow).
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let all = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)))?;
    (all <= isize::MAX as usize / 8).then(|| if shape.contains(&0) { 0 } else { all })
}

/// Reads a tensor whose values are in the message.
///
/// Half floats become floats exactly; doubles are rounded to the nearest float, finite ones staying finite.
pub fn decode_tensor(tensor: &TensorProto) -> Result<TensorData, TensorError> {
    let (shape, elements, bytes) = extent(tensor)?;
    let reader = Reader { tensor, shape, elements, bytes };
    let half = |bits: i32| half_to_f32(bits as u16);
    let brain = |bits: i32| f32::from_bits(u32::from(bits as u16) << 16);
    Ok(match tensor.data_type.unwrap_or(0) {
        data_type::FLOAT => TensorData::F32(reader.values(&tensor.float_data, |v| v, f32::from_le_bytes)?),
        data_type::DOUBLE => {
            TensorData::F32(reader.values(&tensor.double_data, narrow, |raw| narrow(f64::from_le_bytes(raw)))?)
        }
        data_type::FLOAT16 => {
            TensorData::F32(reader.values(&tensor.int32_data, half, |raw| half_to_f32(u16::from_le_bytes(raw)))?)
        }
        data_type::BFLOAT16 => {
            TensorData::F32(reader.values(&tensor.int32_data, brain, |raw| brain(i32::from(u16::from_le_bytes(raw))))?)
        }
        data_type::INT64 => TensorData::I64(reader.values(&tensor.int64_data, |v| v, i64::from_le_bytes)?),
        data_type::INT32 => TensorData::I32(reader.values(&tensor.int32_data, |v| v, i32::from_le_bytes)?),
        data_type::UINT8 => TensorData::U8(reader.values(&tensor.int32_data, |v| v as u8, u8::from_le_bytes)?),
        data_type::INT8 => TensorData::I8(reader.values(&tensor.int32_data, |v| v as i8, i8::from_le_bytes)?),
        data_type::BOOL => {
            TensorData::Bool(reader.values(&tensor.int32_data, |v| v != 0, |raw: [u8; 1]| raw[0] != 0)?)
        }
        other => return Err(TensorError::ElementType(data_type::name(other))),
    })
}

/// Writes a constant as raw little-endian data.
pub fn encode_tensor(name: &str, data: &TensorData) -> TensorProto {
    let (number, raw): (i32, Vec<u8>) = match data {
        TensorData::F32(array) => (data_type::FLOAT, array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        TensorData::I64(array) => (data_type::INT64, array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        TensorData::I32(array) => (data_type::INT32, array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        TensorData::U8(array) => (data_type::UINT8, array.iter().copied().collect()),
        TensorData::I8(array) => (data_type::INT8, array.iter().map(|v| *v as u8).collect()),
        TensorData::Bool(array) => (data_type::BOOL, array.iter().map(|v| u8::from(*v)).collect()),
    };
    TensorProto {
        dims: data.shape().iter().map(|&extent| extent as i64).collect(),
        data_type: Some(number),
        name: Some(name.to_owned()),
        raw_data: Some(Bytes::from(raw)),
        ..TensorProto::default()
    }
}

struct Reader<'a> {
    tensor: &'a TensorProto,
    shape: Vec<usize>,
    elements: usize,
    bytes: u64,
}

impl Reader<'_> {
    /// The values from the raw bytes if there are any, else from the typed list.
    fn values<T, V: Copy, const WIDTH: usize>(
        &self,
        typed: &[V],
        from_typed: impl Fn(V) -> T,
        from_raw: impl Fn([u8; WIDTH]) -> T,
    ) -> Result<ArrayD<T>, TensorError> {
        let mismatch = |expected: u64, found: usize, unit| TensorError::Length {
            dims: self.tensor.dims.clone(),
            expected,
            found: found as u64,
            unit,
        };
        let values: Vec<T> = match &self.tensor.raw_data {
            Some(raw) if !raw.is_empty() || typed.is_empty() => {
                if raw.len() as u64 != self.bytes {
                    return Err(mismatch(self.bytes, raw.len(), "bytes"));
                }
                let (chunks, _) = raw.as_chunks::<WIDTH>();
                chunks.iter().map(|chunk| from_raw(*chunk)).collect()
            }
            _ => {
                if typed.len() != self.elements {
                    return Err(mismatch(self.elements as u64, typed.len(), "elements"));
                }
                typed.iter().map(|&value| from_typed(value)).collect()
            }
        };
        let found = values.len();
        ArrayD::from_shape_vec(IxDyn(&self.shape), values)
            .map_err(|_| mismatch(self.elements as u64, found, "elements"))
    }
}

/// Rounds to float; a finite double beyond the range becomes the largest float (exporters write −1.8e308 for "masked").
fn narrow(value: f64) -> f32 {
    if value.is_finite() { value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 } else { value as f32 }
}

/// IEEE 754 binary16 to binary32, exact.
fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        0 => {
            let magnitude = fraction as f32 * 2f32.powi(-24);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn half_floats_become_floats_exactly() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_f32(bits), value);
        }
        assert_eq!(half_to_f32(0x8000).to_bits(), (-0.0f32).to_bits());
        assert_eq!(half_to_f32(0xfc00), f32::NEG_INFINITY);
        assert!(half_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn a_shape_that_the_data_does_not_fill_is_refused() {
        let mut tensor = TensorProto { dims: vec![2, 3], data_type: Some(data_type::FLOAT), ..TensorProto::default() };
        tensor.raw_data = Some(Bytes::from(vec![0; 20]));
        assert!(matches!(decode_tensor(&tensor), Err(TensorError::Length { expected: 24, found: 20, .. })));
        tensor.raw_data = None;
        tensor.float_data = vec![0.0; 7];
        assert!(matches!(decode_tensor(&tensor), Err(TensorError::Length { expected: 6, found: 7, .. })));
        tensor.dims = vec![1 << 40, 1 << 40, 0];
        assert!(matches!(decode_tensor(&tensor), Err(TensorError::Shape { .. })));
        tensor.dims = vec![-1];
        assert!(matches!(decode_tensor(&tensor), Err(TensorError::Shape { .. })));
    }

    #[test]
    fn a_written_tensor_reads_back_the_same() {
        let values = TensorData::I64(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1, -2, i64::MAX, 0]).unwrap());
        assert_eq!(decode_tensor(&encode_tensor("t", &values)).unwrap(), values);
        let scalar = TensorData::F32(ArrayD::from_elem(IxDyn(&[]), -0.5));
        assert_eq!(decode_tensor(&encode_tensor("t", &scalar)).unwrap(), scalar);
    }
}
