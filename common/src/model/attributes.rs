//! Typed reading of a node's attributes.

use super::error::ModelError;
use crate::graph::TensorData;
use crate::onnx::decode_tensor;
use crate::onnx::schema::{AttributeProto, NodeProto, attribute_type};

/// Reads attributes; a wrong type is an error, an absent attribute is `None`.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    fn find(&self, name: &str, expected: i32, kind: &str) -> Result<Option<&'a AttributeProto>, ModelError> {
        let Some(attribute) = self.0.find_attribute(name) else { return Ok(None) };
        match attribute.r#type {
            Some(found) if found == expected => Ok(Some(attribute)),
            // Files of the first format version carry no type.
            None | Some(0) => Ok(Some(attribute)),
            Some(_) => Err(ModelError::invalid(self.0, format!("attribute `{name}` is not of type {kind}"))),
        }
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ModelError> {
        Ok(self.find(name, attribute_type::INT, "integer")?.map(|attribute| attribute.i.unwrap_or(0)))
    }

    /// An integer that means yes or no.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A float.
    pub fn float(&self, name: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.find(name, attribute_type::FLOAT, "float")?.map(|attribute| attribute.f.unwrap_or(0.0)))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        let Some(attribute) = self.find(name, attribute_type::STRING, "string")? else { return Ok(None) };
        let bytes = attribute.s.as_deref().unwrap_or_default();
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| ModelError::invalid(self.0, format!("attribute `{name}` is not text")))
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, ModelError> {
        Ok(self.find(name, attribute_type::INTS, "list of integers")?.map(|attribute| attribute.ints.as_slice()))
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, ModelError> {
        Ok(self.find(name, attribute_type::FLOATS, "list of floats")?.map(|attribute| attribute.floats.as_slice()))
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorData>, ModelError> {
        let Some(attribute) = self.find(name, attribute_type::TENSOR, "tensor")? else { return Ok(None) };
        let tensor = attribute
            .t
            .as_ref()
            .ok_or_else(|| ModelError::invalid(self.0, format!("attribute `{name}` holds no tensor")))?;
        if tensor.data_location == Some(crate::onnx::schema::EXTERNAL_LOCATION) {
            return Err(ModelError::unsupported(
                self.0,
                format!("attribute `{name}` with values in another file"),
                "store the constant as an initializer",
            ));
        }
        let data = decode_tensor(tensor)
            .map_err(|source| ModelError::Constant { tensor: format!("{}.{name}", self.0.name()), source })?;
        Ok(Some(data))
    }

    /// A list of non-negative integers of a given length, or its default.
    pub fn extents(&self, name: &str, count: usize, default: usize) -> Result<Vec<usize>, ModelError> {
        let Some(values) = self.ints(name)? else { return Ok(vec![default; count]) };
        if values.len() != count {
            let reason = format!("attribute `{name}` has {} entries where {count} are needed", values.len());
            return Err(ModelError::invalid(self.0, reason));
        }
        values
            .iter()
            .map(|&value| {
                usize::try_from(value).map_err(|_| {
                    ModelError::unsupported(
                        self.0,
                        format!("attribute `{name}` with the negative entry {value}"),
                        "use a Slice or Pad node instead",
                    )
                })
            })
            .collect()
    }
}
