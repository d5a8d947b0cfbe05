//! Stored arrays as model inputs: shapes aligned with the model's, elements converted without silent loss.

use super::steps::{Steps, normalize};
use holdfast_common::dataset::ElementType;
use holdfast_common::graph::{DataType, TensorData};
use ndarray::{ArrayD, IxDyn};

/// How one stored array becomes one input.
#[derive(Debug)]
pub(super) struct ArrayRoute {
    element: ElementType,
    data_type: DataType,
    /// Shape of the stored sample.
    stored: Vec<usize>,
    /// Shape of the input, beginning with 1.
    shape: Vec<usize>,
    /// Stored height × width × channel, wanted channel × height × width.
    is_transposed: bool,
    steps: Steps,
}

impl ArrayRoute {
    /// Aligns a stored shape with the model's. The error says what the data gives and what the model wants.
    pub(super) fn new(
        element: ElementType,
        stored: &[usize],
        data_type: DataType,
        wanted: &[Option<usize>],
        steps: Steps,
    ) -> Result<ArrayRoute, String> {
        let is_float = matches!(element, ElementType::F32 | ElementType::F64);
        if data_type != DataType::F32 && (is_float || !steps.normalizations.is_empty()) {
            let advice = if is_float { "store integers" } else { "remove the normalization" };
            return Err(format!("the model wants {data_type}, the data gives floats; {advice}"));
        }
        let shape = |stored: &[usize]| aligned(stored, wanted);
        let transposed = match stored {
            [height, width, channels] => Some([*channels, *height, *width]),
            _ => None,
        };
        let (shape, is_transposed) = match (shape(stored), transposed.and_then(|stored| shape(&stored))) {
            (Some(shape), _) => (shape, false),
            (None, Some(shape)) => (shape, true),
            (None, None) => {
                return Err(format!(
                    "the data gives samples of shape {stored:?}, the model wants {}; store the array with that shape \
                     after its first axis",
                    shape_text(wanted)
                ));
            }
        };
        let channels = shape.get(1).copied().unwrap_or(1);
        if !steps.suits_channels(channels) {
            return Err(format!(
                "`normalization` has one value per channel, but the model input has {channels} channels (its second axis); \
                 give one value, or {channels}"
            ));
        }
        Ok(ArrayRoute { element, data_type, stored: stored.to_vec(), shape, is_transposed, steps })
    }

    /// Converts one sample. The error names the element that has no place in the model's type.
    pub(super) fn prepare(&self, bytes: &[u8]) -> Result<TensorData, String> {
        Ok(match self.data_type {
            DataType::F32 => {
                let mut array = self.arrange(self.floats(bytes)?)?;
                if !self.steps.normalizations.is_empty() {
                    self.normalize(&mut array);
                }
                TensorData::F32(array)
            }
            DataType::I64 => TensorData::I64(self.arrange(self.integers(bytes, Some)?)?),
            DataType::I32 => TensorData::I32(self.arrange(self.integers(bytes, |value| i32::try_from(value).ok())?)?),
            DataType::U8 => TensorData::U8(self.arrange(self.integers(bytes, |value| u8::try_from(value).ok())?)?),
            DataType::I8 => TensorData::I8(self.arrange(self.integers(bytes, |value| i8::try_from(value).ok())?)?),
            DataType::Bool => TensorData::Bool(self.arrange(self.integers(bytes, |value| Some(value != 0))?)?),
        })
    }

    fn normalize(&self, array: &mut ArrayD<f32>) {
        let (channels, inner) = match self.shape.as_slice() {
            [_, channels, rest @ ..] => (*channels, rest.iter().product::<usize>()),
            _ => (1, 1),
        };
        if let Some(values) = array.as_slice_mut() {
            for (index, plane) in values.chunks_exact_mut(inner.max(1)).enumerate() {
                let channel = index % channels.max(1);
                plane.iter_mut().for_each(|value| *value = normalize(&self.steps.normalizations, *value, channel));
            }
        }
    }

    /// Gives the elements the input's shape; the result is dense and row-major.
    fn arrange<T: Clone>(&self, values: Vec<T>) -> Result<ArrayD<T>, String> {
        let mismatch = |_| format!("it does not hold as many elements as its shape {:?} takes", self.stored);
        let array = ArrayD::from_shape_vec(IxDyn(&self.stored), values).map_err(mismatch)?;
        let array = if self.is_transposed {
            array.permuted_axes(IxDyn(&[2, 0, 1])).as_standard_layout().into_owned()
        } else {
            array
        };
        array.into_shape_with_order(IxDyn(&self.shape)).map_err(mismatch)
    }

    fn floats(&self, bytes: &[u8]) -> Result<Vec<f32>, String> {
        let values: Vec<f32> = match self.element {
            ElementType::F32 => elements(bytes, f32::from_le_bytes).collect(),
            ElementType::F64 => elements(bytes, f64::from_le_bytes).map(|value| value as f32).collect(),
            _ => self.integers(bytes, |value| Some(value as f32))?,
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(format!("element {index} is {} as a 32-bit float; repair the array", values[index])),
            None => Ok(values),
        }
    }

    fn integers<T>(&self, bytes: &[u8], convert: impl Fn(i64) -> Option<T>) -> Result<Vec<T>, String> {
        let checked = |(index, value): (usize, i64)| {
            convert(value).ok_or_else(|| format!("element {index} is {value}, which {} cannot hold", self.data_type))
        };
        match self.element {
            ElementType::U8 => bytes.iter().map(|&value| i64::from(value)).enumerate().map(checked).collect(),
            ElementType::I8 => elements(bytes, i8::from_le_bytes).map(i64::from).enumerate().map(checked).collect(),
            ElementType::I32 => elements(bytes, i32::from_le_bytes).map(i64::from).enumerate().map(checked).collect(),
            ElementType::I64 => elements(bytes, i64::from_le_bytes).enumerate().map(checked).collect(),
            ElementType::F32 | ElementType::F64 => {
                Err("floats cannot feed an integer input; store integers".to_owned())
            }
        }
    }
}

fn elements<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |chunk| read(*chunk))
}

/// The input shape a stored sample shape makes, with its leading 1; `None` where they do not go together.
///
/// Axes of length 1 may be missing on either side, where the model's shape is static; a free axis takes any length.
fn aligned(stored: &[usize], wanted: &[Option<usize>]) -> Option<Vec<usize>> {
    let (_, wanted) = wanted.split_first()?;
    let fits = |stored: &[usize], wanted: &[Option<usize>]| {
        stored.len() == wanted.len() && stored.iter().zip(wanted).all(|(s, w)| w.is_none_or(|w| w == *s))
    };
    let batched = |shape: &[usize]| Some([&[1], shape].concat());
    if fits(stored, wanted) {
        return batched(stored);
    }
    if let Some(wanted) = wanted.iter().copied().collect::<Option<Vec<usize>>>() {
        let significant = |shape: &[usize]| shape.iter().copied().filter(|&length| length != 1).collect::<Vec<_>>();
        return if significant(stored) == significant(&wanted) { batched(&wanted) } else { None };
    }
    match wanted.split_first() {
        Some((None | Some(1), rest)) if fits(stored, rest) => Some([&[1, 1], stored].concat()),
        _ => None,
    }
}

/// A model's shape in messages; free axes read `?`.
pub(super) fn shape_text(shape: &[Option<usize>]) -> String {
    let axis = |axis: &Option<usize>| axis.map_or_else(|| "?".to_owned(), |length| length.to_string());
    format!("[{}]", shape.iter().map(axis).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::dataset::PreprocessingStep;

    fn route(
        element: ElementType,
        stored: &[usize],
        data_type: DataType,
        wanted: &[Option<usize>],
    ) -> Result<ArrayRoute, String> {
        ArrayRoute::new(element, stored, data_type, wanted, Steps::new(&[], None, None)?)
    }

    #[test]
    fn axes_of_length_one_may_be_missing() {
        assert_eq!(aligned(&[28, 28], &[None, Some(1), Some(28), Some(28)]), Some(vec![1, 1, 28, 28]));
        assert_eq!(aligned(&[28, 28], &[None, Some(1), None, None]), Some(vec![1, 1, 28, 28]));
        assert_eq!(aligned(&[], &[None, Some(1)]), Some(vec![1, 1]));
        assert_eq!(aligned(&[32], &[None, None]), Some(vec![1, 32]));
        assert_eq!(aligned(&[28, 27], &[None, Some(1), Some(28), Some(28)]), None);
        assert_eq!(aligned(&[32], &[]), None);
    }

    #[test]
    fn channels_last_data_is_turned_for_a_channels_first_model() {
        let route = route(ElementType::U8, &[2, 2, 3], DataType::F32, &[None, Some(3), Some(2), Some(2)]);
        let tensor = route.and_then(|route| route.prepare(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).expect("fits");
        let array = tensor.as_f32().expect("floats");
        assert_eq!(array.shape(), [1, 3, 2, 2]);
        assert_eq!(array.as_slice(), Some(&[0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0][..]));
    }

    #[test]
    fn what_a_type_cannot_hold_is_named_and_not_wrapped() {
        let wide = route(ElementType::I64, &[2], DataType::I32, &[None, Some(2)]).expect("fits");
        let bytes = [7i64.to_le_bytes(), (1i64 << 40).to_le_bytes()].concat();
        assert_eq!(wide.prepare(&bytes).expect_err("too large"), "element 1 is 1099511627776, which int32 cannot hold");
        let floats = route(ElementType::F64, &[1], DataType::F32, &[None, Some(1)]).expect("fits");
        assert!(floats.prepare(&1e300f64.to_le_bytes()).is_err());
        assert!(floats.prepare(&[0; 7]).is_err());
        assert!(route(ElementType::F32, &[1], DataType::I64, &[None, Some(1)]).is_err());
    }

    #[test]
    fn one_value_per_channel_follows_the_second_axis_of_the_input() {
        let step = PreprocessingStep::Normalization { scale: 1.0, mean: vec![1.0, 2.0], std: vec![2.0] };
        let steps = Steps::new(&[step], None, None).expect("sound");
        let wanted = [None, Some(2), Some(2)];
        let route = ArrayRoute::new(ElementType::F32, &[2, 2], DataType::F32, &wanted, steps.clone()).expect("fits");
        let bytes: Vec<u8> = [1f32, 3.0, 2.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = route.prepare(&bytes).expect("finite");
        assert_eq!(tensor.as_f32().and_then(|array| array.as_slice()), Some(&[0.0, 1.0, 0.0, 1.0][..]));
        assert!(ArrayRoute::new(ElementType::F32, &[3, 2], DataType::F32, &[None, Some(3), None], steps).is_err());
    }
}
