//! Declared preprocessing, checked once and split into steps on 8-bit pixels and the arithmetic that follows them.

use super::decode::MAX_PIXELS;
use super::pixels::part;
use super::{Pixels, resize};
use holdfast_common::dataset::PreprocessingStep;
use serde::Serialize;

/// Steps one field may have.
const MAX_STEPS: usize = 64;

/// `((x / scale) − mean) / std`, in f32, in this order: every path computes exactly this.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Normalization {
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalization {
    fn apply(&self, value: f32, channel: usize) -> f32 {
        let of = |values: &[f32]| if values.len() == 1 { values[0] } else { values[channel] };
        ((value / self.scale) - of(&self.mean)) / of(&self.std)
    }

    fn reverse_channels(&mut self) {
        self.mean.reverse();
        self.std.reverse();
    }
}

/// Applies normalizations one after another.
pub(super) fn normalize(normalizations: &[Normalization], value: f32, channel: usize) -> f32 {
    normalizations.iter().fold(value, |value, normalization| normalization.apply(value, channel))
}

/// A step list taken apart.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Steps {
    /// What happens to the 8-bit pixels, in order.
    pub(super) on_pixels: Vec<PreprocessingStep>,
    /// What happens to the numbers afterwards; not part of what a cache of pixels is keyed by.
    #[serde(skip)]
    pub(super) normalizations: Vec<Normalization>,
    /// Channels after all steps; `None` for arrays that are no images.
    pub(super) channels: Option<usize>,
    /// Height and width after all steps, where the steps fix them.
    pub(super) size: Option<(usize, usize)>,
}

impl Steps {
    /// Checks a step list for pixels of so many channels (`None`: numbers that are no pixels) and takes it apart.
    ///
    /// Crops and channel reversals commute with normalization and are moved before it; everything else must stand
    /// before it. The error says what is wrong and how to fix it.
    pub(super) fn new(
        steps: &[PreprocessingStep],
        channels: Option<usize>,
        size: Option<(usize, usize)>,
    ) -> Result<Steps, String> {
        if steps.len() > MAX_STEPS {
            return Err(format!("{} preprocessing steps; at most {MAX_STEPS} are possible", steps.len()));
        }
        let mut done = Steps { on_pixels: Vec::new(), normalizations: Vec::new(), channels, size };
        for step in steps {
            done.add(step)?;
        }
        Ok(done)
    }

    fn add(&mut self, step: &PreprocessingStep) -> Result<(), String> {
        if let PreprocessingStep::Normalization { scale, mean, std } = step {
            return self.add_normalization(*scale, mean, std);
        }
        let name = step_name(step);
        if self.channels.is_none() {
            return Err(format!("`{name}` works on images; this field is an array of numbers that is no 8-bit image"));
        }
        match step {
            PreprocessingStep::Resize { height, width, .. } => {
                self.before_normalization(name)?;
                self.size = Some(sane_size(name, *height, *width)?);
            }
            PreprocessingStep::ResizeShortest { size, .. } => {
                self.before_normalization(name)?;
                sane_size(name, *size, *size)?;
                self.size = self.size.map(|(height, width)| resize::shortest_side(height, width, *size));
            }
            PreprocessingStep::CenterCrop { height, width } => {
                let crop = sane_size(name, *height, *width)?;
                if let Some((h, w)) = self.size
                    && (h < crop.0 || w < crop.1)
                {
                    let (ch, cw) = crop;
                    return Err(format!(
                        "`{name}` to {ch}×{cw} of an image of {h}×{w}; resize to at least its size first"
                    ));
                }
                self.size = Some(crop);
            }
            PreprocessingStep::CentralFraction { share } => {
                if !(*share > 0.0 && *share <= 1.0) {
                    return Err(format!("`{name}` keeps the share {share}; it must be above 0 and at most 1"));
                }
                self.size = self.size.map(|(height, width)| (part(height, *share), part(width, *share)));
            }
            PreprocessingStep::ReverseChannels => {
                self.normalizations.iter_mut().for_each(Normalization::reverse_channels);
            }
            PreprocessingStep::Grayscale => {
                self.before_normalization(name)?;
                self.channels = Some(1);
            }
            PreprocessingStep::Normalization { .. } => {}
        }
        self.on_pixels.push(step.clone());
        Ok(())
    }

    fn add_normalization(&mut self, scale: f32, mean: &[f32], std: &[f32]) -> Result<(), String> {
        if !scale.is_finite() || scale == 0.0 {
            return Err(format!("`normalization` divides by scale {scale}; it must be finite and not 0"));
        }
        if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
            return Err(format!("`normalization` subtracts the mean {value}; it must be finite"));
        }
        if let Some(value) = std.iter().find(|value| !value.is_finite() || **value == 0.0) {
            return Err(format!("`normalization` divides by std {value}; it must be finite and not 0"));
        }
        for (what, values) in [("mean", mean), ("std", std)] {
            let expected = self.channels.unwrap_or(values.len());
            if values.is_empty() || (values.len() != 1 && values.len() != expected) {
                let found = values.len();
                return Err(format!(
                    "`normalization` has {found} values of `{what}`; give one, or one per channel ({expected})"
                ));
            }
        }
        self.normalizations.push(Normalization { scale, mean: mean.to_vec(), std: std.to_vec() });
        Ok(())
    }

    fn before_normalization(&self, name: &str) -> Result<(), String> {
        if self.normalizations.is_empty() {
            Ok(())
        } else {
            Err(format!("`{name}` works on 8-bit pixels; put it before `normalization`"))
        }
    }

    /// Whether every channel of `channels` has its own value wherever there is more than one.
    pub(super) fn suits_channels(&self, channels: usize) -> bool {
        let suits = |values: &[f32]| values.len() == 1 || values.len() == channels;
        self.normalizations.iter().all(|normalization| suits(&normalization.mean) && suits(&normalization.std))
    }

    /// Whether one value serves all channels.
    pub(super) fn is_uniform(&self) -> bool {
        self.suits_channels(1)
    }

    /// Runs the steps on pixels.
    pub(super) fn apply(&self, mut pixels: Pixels) -> Result<Pixels, String> {
        for step in &self.on_pixels {
            pixels = match step {
                PreprocessingStep::Resize { height, width, filter } => resize::resize(pixels, *height, *width, *filter),
                PreprocessingStep::ResizeShortest { size, filter } => {
                    let (height, width) = resize::shortest_side(pixels.height, pixels.width, *size);
                    if height as u64 * width as u64 > MAX_PIXELS {
                        return Err(format!(
                            "`resize_shortest` would make {width}×{height} pixels of this narrow image"
                        ));
                    }
                    resize::resize(pixels, height, width, *filter)
                }
                PreprocessingStep::CenterCrop { height, width } => {
                    let (h, w) = (pixels.height, pixels.width);
                    pixels.center_crop(*height, *width).ok_or_else(|| {
                        format!(
                            "the image is {w}×{h}, too small for `center_crop` to {width}×{height}; resize it first"
                        )
                    })?
                }
                PreprocessingStep::CentralFraction { share } => pixels.central_fraction(*share),
                PreprocessingStep::ReverseChannels => pixels.reverse_channels(),
                PreprocessingStep::Grayscale => pixels.grayscale(),
                PreprocessingStep::Normalization { .. } => pixels,
            };
        }
        Ok(pixels)
    }

    /// For every channel the value each byte becomes.
    pub(super) fn tables(&self, channels: usize) -> Vec<[f32; 256]> {
        let entry = |byte: usize, channel: usize| normalize(&self.normalizations, byte as f32, channel);
        (0..channels).map(|channel| std::array::from_fn(|byte| entry(byte, channel))).collect()
    }
}

fn step_name(step: &PreprocessingStep) -> &'static str {
    match step {
        PreprocessingStep::Resize { .. } => "resize",
        PreprocessingStep::ResizeShortest { .. } => "resize_shortest",
        PreprocessingStep::CenterCrop { .. } => "center_crop",
        PreprocessingStep::CentralFraction { .. } => "central_fraction",
        PreprocessingStep::ReverseChannels => "reverse_channels",
        PreprocessingStep::Grayscale => "grayscale",
        PreprocessingStep::Normalization { .. } => "normalization",
    }
}

fn sane_size(name: &str, height: usize, width: usize) -> Result<(usize, usize), String> {
    let pixels = (height as u64).saturating_mul(width as u64);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!(
            "`{name}` to {height}×{width}; both must be positive and their product at most {MAX_PIXELS}"
        ));
    }
    Ok((height, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::dataset::ResizeFilter;

    fn normalization(mean: &[f32]) -> PreprocessingStep {
        PreprocessingStep::Normalization { scale: 255.0, mean: mean.to_vec(), std: vec![0.5] }
    }

    #[test]
    fn reversing_channels_after_normalization_is_normalizing_reversed_channels() {
        let after = [normalization(&[0.1, 0.2, 0.3]), PreprocessingStep::ReverseChannels];
        let before = [PreprocessingStep::ReverseChannels, normalization(&[0.3, 0.2, 0.1])];
        let [after, before] = [after, before].map(|steps| Steps::new(&steps, Some(3), None).expect("sound steps"));
        assert_eq!(after.on_pixels, before.on_pixels);
        assert_eq!(after.tables(3), before.tables(3));
    }

    #[test]
    fn steps_that_make_no_sense_are_refused_with_advice() {
        let resize = |height, width| PreprocessingStep::Resize { height, width, filter: ResizeFilter::PillowBilinear };
        let crop = PreprocessingStep::CenterCrop { height: 8, width: 8 };
        let refusal = |steps: &[PreprocessingStep], channels| Steps::new(steps, channels, None).expect_err("refused");
        assert!(refusal(&[normalization(&[0.0]), resize(4, 4)], Some(3)).contains("before `normalization`"));
        assert!(refusal(&[resize(4, 0)], Some(3)).contains("must be positive"));
        assert!(refusal(&[resize(1 << 20, 1 << 20)], Some(3)).contains("at most"));
        assert!(refusal(&[resize(4, 4), crop], Some(3)).contains("resize to at least"));
        assert!(refusal(&[normalization(&[0.0, 0.0])], Some(3)).contains("one per channel (3)"));
        assert!(refusal(&[resize(4, 4)], None).contains("no 8-bit image"));
        let by_zero = PreprocessingStep::Normalization { scale: 0.0, mean: vec![0.0], std: vec![1.0] };
        assert!(refusal(&[by_zero], Some(3)).contains("not 0"));
        assert!(refusal(&vec![PreprocessingStep::ReverseChannels; 65], Some(3)).contains("at most 64"));
    }
}
