//! Arrays of samples as model inputs, for the programs that the parity and speed scripts drive.

use holdfast_common::graph::{DataType, TensorData};
use holdfast_common::model::Model;
use ndarray::{ArrayD, Axis, Slice};
use std::collections::BTreeMap;
use std::error::Error;

/// Samples of every model input.
pub struct Samples {
    arrays: Vec<TensorData>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Samples {
    /// Reads one `.npy` file a model input, in model order, paths joined by commas.
    ///
    /// # Errors
    ///
    /// When there are too few files, or one cannot be read as its input's element type.
    pub fn read(model: &Model, paths: &str) -> Result<Samples, Box<dyn Error>> {
        let mut paths = paths.split(',');
        let (mut arrays, mut shapes) = (Vec::new(), BTreeMap::new());
        for input in model.inputs() {
            let path = paths.next().ok_or(format!("no array for input `{}`", input.name))?;
            let data = match input.data_type {
                DataType::F32 => TensorData::F32(ndarray_npy::read_npy::<_, ArrayD<f32>>(path)?),
                DataType::I64 => TensorData::I64(ndarray_npy::read_npy::<_, ArrayD<i64>>(path)?),
                DataType::I32 => TensorData::I32(ndarray_npy::read_npy::<_, ArrayD<i32>>(path)?),
                other => return Err(format!("{other} inputs are not read here").into()),
            };
            let mut shape = data.shape().to_vec();
            *shape.first_mut().ok_or("an array without samples")? = 1;
            shapes.insert(input.name.clone(), shape);
            arrays.push(data);
        }
        Ok(Samples { arrays, shapes })
    }

    /// The shape of one sample of every input.
    pub fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.arrays.iter().map(|array| array.shape()[0]).min().unwrap_or(0)
    }

    /// One sample's inputs in model order.
    pub fn get(&self, index: usize) -> Vec<TensorData> {
        let part = Slice::from(index..index + 1);
        let cut = |data: &TensorData| match data {
            TensorData::F32(array) => TensorData::F32(array.slice_axis(Axis(0), part).to_owned()),
            TensorData::I64(array) => TensorData::I64(array.slice_axis(Axis(0), part).to_owned()),
            TensorData::I32(array) => TensorData::I32(array.slice_axis(Axis(0), part).to_owned()),
            other => other.clone(),
        };
        self.arrays.iter().map(cut).collect()
    }

    /// All samples.
    pub fn all(&self) -> Vec<Vec<TensorData>> {
        (0..self.count()).map(|index| self.get(index)).collect()
    }
}
