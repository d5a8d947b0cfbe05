//! Per-sample statistics of tensors a plan keeps readable.

use super::{Layout, Placement};
use holdfast_common::evaluation::{Statistic, StatisticSpec, rows};
use holdfast_common::quantization::statistics::quantile_of_floats;
use holdfast_kernels::{Isa, float};

/// One statistic to take of one placed tensor.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    /// What is wanted.
    pub spec: &'a StatisticSpec,
    /// Where the tensor lies.
    pub placement: &'a Placement,
    /// Its buffer.
    pub values: &'a [f32],
}

impl Observation<'_> {
    /// The statistic: one value, or one per index of the axis asked for, or elements; in f64 whose values fit f32.
    pub fn take(&self, isa: Isa) -> Vec<f64> {
        let image = &self.placement.image;
        let channel_axis = match self.placement.layout {
            Layout::ChannelsLast => 1,
            Layout::RowMajor => self.placement.shape.len().saturating_sub(1),
        };
        let channels = image.channels;
        let (mut lows, mut highs) = (vec![0.0; channels], vec![0.0; channels]);
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        match (self.spec.statistic, self.spec.axis) {
            (Statistic::Min, axis) if axis.is_none() || axis == Some(channel_axis) => {
                float::channel_min_max(isa, image, self.values, &mut lows, &mut highs);
                if axis.is_some() { wide(lows) } else { wide(vec![lows.into_iter().fold(f32::INFINITY, f32::min)]) }
            }
            (Statistic::Max, axis) if axis.is_none() || axis == Some(channel_axis) => {
                float::channel_min_max(isa, image, self.values, &mut lows, &mut highs);
                if axis.is_some() {
                    wide(highs)
                } else {
                    wide(vec![highs.into_iter().fold(f32::NEG_INFINITY, f32::max)])
                }
            }
            (Statistic::AbsMax, axis) if axis.is_none() || axis == Some(channel_axis) => {
                float::channel_abs_max(isa, image, self.values, &mut highs);
                if axis.is_some() { wide(highs) } else { wide(vec![highs.into_iter().fold(0.0, f32::max)]) }
            }
            (Statistic::Mean, Some(axis)) if axis == channel_axis => {
                let mut means = vec![0.0; channels];
                float::channel_mean(isa, image, self.values, &mut means);
                means.into_iter().map(|mean| f64::from(mean as f32)).collect()
            }
            (Statistic::Patches(window), _) => {
                window.patches(&self.placement.shape, &self.placement.gather(self.values))
            }
            (Statistic::Rows(count), _) => rows(count, &self.placement.shape, &self.placement.gather(self.values)),
            (statistic, axis) => self.slices(axis).into_iter().map(|slice| of_slice(statistic, slice)).collect(),
        }
    }

    /// The tensor's elements, all together or per index of an axis, each in row-major order.
    fn slices(&self, axis: Option<usize>) -> Vec<Vec<f32>> {
        let elements = self.placement.gather(self.values);
        let Some(axis) = axis.filter(|axis| *axis < self.placement.shape.len()) else { return vec![elements] };
        let extent = self.placement.shape[axis];
        let inner: usize = self.placement.shape[axis + 1..].iter().product();
        let mut slices = vec![Vec::new(); extent];
        for (index, element) in elements.into_iter().enumerate() {
            slices[index / inner.max(1) % extent].push(element);
        }
        slices
    }
}

/// A statistic of plain numbers; NaN where one of them is.
fn of_slice(statistic: Statistic, values: Vec<f32>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    match statistic {
        Statistic::Min => f64::from(values.into_iter().fold(f32::INFINITY, f32::min)),
        Statistic::Max => f64::from(values.into_iter().fold(f32::NEG_INFINITY, f32::max)),
        Statistic::AbsMax => f64::from(values.into_iter().fold(0.0, |most: f32, value| most.max(value.abs()))),
        Statistic::Mean => {
            let sum = values.iter().fold(0.0, |sum, value| sum + f64::from(*value));
            f64::from((sum / values.len() as f64) as f32)
        }
        Statistic::Quantile(probability) => rounded(quantile_of_floats(values.into_iter(), probability)),
        Statistic::AbsQuantile(probability) => {
            rounded(quantile_of_floats(values.into_iter().map(f32::abs), probability))
        }
        // These are elements, taken as they are.
        Statistic::Patches(_) | Statistic::Rows(_) => f64::NAN,
    }
}

/// A quantile rounded to f32; NaN of nothing.
fn rounded(quantile: Option<f64>) -> f64 {
    quantile.map_or(f64::NAN, |quantile| f64::from(quantile as f32))
}
