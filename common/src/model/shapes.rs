//! The input shapes of one sample: the batch axis is 1, free axes are what the data set's arrays have.

use super::{Model, ModelInput};
use crate::dataset::{FieldEncoding, Manifest};
use std::collections::BTreeMap;

/// A model input's shape for one sample cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleShapeError {
    /// The model was exported for a fixed batch of several samples.
    #[error(
        "model input `{input}` has a fixed batch of {batch}; export the model with a free batch axis or a batch of 1"
    )]
    Batch {
        /// The input.
        input: String,
        /// Its batch extent.
        batch: usize,
    },
    /// An axis is free in the model and the data does not fix it.
    #[error(
        "model input `{input}` leaves axis {axis} free and the data does not say how long it is; export the model with a fixed extent"
    )]
    Free {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
    },
}

impl Model {
    /// The shape of every input for one sample of a data set, by input name.
    ///
    /// # Errors
    ///
    /// [`SampleShapeError`] where the model fixes a batch other than 1, or leaves an axis free that the data does not fix.
    pub fn sample_shapes(&self, manifest: &Manifest) -> Result<BTreeMap<String, Vec<usize>>, SampleShapeError> {
        let mut shapes = BTreeMap::new();
        for input in self.inputs() {
            shapes.insert(input.name.clone(), sample_shape(input, manifest, self.inputs().len())?);
        }
        Ok(shapes)
    }
}

fn sample_shape(input: &ModelInput, manifest: &Manifest, inputs: usize) -> Result<Vec<usize>, SampleShapeError> {
    if let Some(Some(batch)) = input.dims.first()
        && *batch != 1
    {
        return Err(SampleShapeError::Batch { input: input.name.clone(), batch: *batch });
    }
    let field = manifest.fields.iter().find(|field| field.name == input.name);
    let field = field.or(if inputs == 1 { manifest.fields.first() } else { None });
    let stored = match field.map(|field| &field.encoding) {
        Some(FieldEncoding::Array { shape, .. }) if shape.len() + 1 == input.dims.len() => Some(shape),
        _ => None,
    };
    let axis_extent = |(axis, extent): (usize, &Option<usize>)| match (axis, extent) {
        (0, _) => Ok(1),
        (_, Some(extent)) => Ok(*extent),
        (_, None) => {
            let known = stored.and_then(|shape| shape.get(axis - 1)).copied();
            known.ok_or_else(|| SampleShapeError::Free { input: input.name.clone(), axis })
        }
    };
    input.dims.iter().enumerate().map(axis_extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{ElementType, Field};
    use crate::graph::DataType;

    fn manifest(shape: &[usize]) -> Manifest {
        let encoding = FieldEncoding::Array { element: ElementType::I64, shape: shape.to_vec() };
        Manifest {
            name: "texts".to_owned(),
            fields: vec![Field { name: "ids".to_owned(), encoding }],
            classes: Vec::new(),
            samples: Vec::new(),
            packs: Vec::new(),
        }
    }

    fn input(dims: &[Option<usize>]) -> ModelInput {
        ModelInput { name: "ids".to_owned(), data_type: DataType::I64, dims: dims.to_vec() }
    }

    #[test]
    fn free_axes_take_the_extents_of_the_stored_arrays() {
        assert_eq!(sample_shape(&input(&[None, None]), &manifest(&[32]), 1), Ok(vec![1, 32]));
        assert_eq!(sample_shape(&input(&[None, Some(8)]), &manifest(&[32]), 1), Ok(vec![1, 8]));
    }

    #[test]
    fn a_fixed_batch_and_an_unknown_length_are_refused() {
        let batch = sample_shape(&input(&[Some(4), None]), &manifest(&[32]), 1);
        assert_eq!(batch, Err(SampleShapeError::Batch { input: "ids".to_owned(), batch: 4 }));
        let free = sample_shape(&input(&[None, None, None]), &manifest(&[32]), 1);
        assert_eq!(free, Err(SampleShapeError::Free { input: "ids".to_owned(), axis: 1 }));
    }
}
