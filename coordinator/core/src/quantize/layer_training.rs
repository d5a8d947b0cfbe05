//! Training one layer's codes and bias: Adam on the squared error of its outputs, with rounding passed over by gradients.
//!
//! Everything is summed in one order in single precision, so that the same layer and samples give the same codes on every
//! machine. Source: POT's layer-wise fine-tuning, restated, with a share of the samples held out to judge it by.

use crate::parameters::LayerwiseTuning;
use crate::seed::SplitMix64;
use holdfast_common::scheme::QuantParams;
use std::ops::Range;

/// Learning rates of weights and biases.
const WEIGHT_RATE: f32 = 1e-5;
const BIAS_RATE: f32 = 1e-4;

/// Adam's decays and the number that keeps it from dividing by zero (Kingma and Ba, 2015).
const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// What remains of the gradient of a weight that is beyond the range of codes.
const LEAK: f32 = 0.01;

/// One in this many samples is held out.
const HELD_OUT: usize = 5;

/// How often training is looked at; the best look counts.
const LOOKS: usize = 10;

/// Sums that are added up side by side, so that they can be computed so.
const LANES: usize = 8;

/// A product of a matrix per group: rows of one group read the same part of a patch.
pub(super) struct Layer<'a> {
    /// Rows.
    pub(super) outputs: usize,
    /// Weights of a row.
    pub(super) inputs: usize,
    /// Groups; rows are split evenly.
    pub(super) groups: usize,
    /// Row by row.
    pub(super) weights: Vec<f32>,
    /// One a row.
    pub(super) bias: Vec<f32>,
    /// Quant params of the weights: one slice, or one a row.
    pub(super) params: &'a QuantParams,
    /// Quant params of the input.
    pub(super) input: &'a QuantParams,
}

/// What the layer reads at some of its output positions, by sample.
pub(super) struct Patches {
    /// Samples, each some patches one after another, each `groups × inputs` numbers.
    pub(super) samples: Vec<Vec<f32>>,
}

/// What training made of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trained {
    /// Codes, row by row.
    pub(super) codes: Vec<i8>,
    /// One a row.
    pub(super) bias: Vec<f32>,
    /// Mean squared error on the samples held out, with rounded weights and the bias given, and after training; rows that
    /// training made worse there are as they were.
    pub(super) errors: [f64; 2],
}

/// Numbers an optimizer moves.
struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    rate: f32,
    /// The decays to the power of the steps made.
    powers: [f32; 2],
}

impl Adam {
    fn new(count: usize, rate: f32) -> Adam {
        Adam { first: vec![0.0; count], second: vec![0.0; count], rate, powers: [1.0; 2] }
    }

    fn step(&mut self, values: &mut [f32], gradients: &[f32]) {
        self.powers = [self.powers[0] * FIRST_DECAY, self.powers[1] * SECOND_DECAY];
        let [first_left, second_left] = self.powers.map(|power| 1.0 - power);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradients).zip(moments) {
            *first = FIRST_DECAY * *first + (1.0 - FIRST_DECAY) * gradient;
            *second = SECOND_DECAY * *second + (1.0 - SECOND_DECAY) * gradient * gradient;
            *value -= self.rate * (*first / first_left) / ((*second / second_left).sqrt() + EPSILON);
        }
    }
}

impl Layer<'_> {
    fn slice(&self, row: usize) -> usize {
        if self.params.axis.is_some() { row } else { 0 }
    }

    /// The nearest codes.
    pub(super) fn codes(&self) -> Vec<i8> {
        self.codes_of(&self.weights)
    }

    fn codes_of(&self, weights: &[f32]) -> Vec<i8> {
        let of_row = |(row, weights): (usize, &[f32])| -> Vec<i8> {
            weights.iter().map(|weight| self.params.code(*weight, self.slice(row)).clamp(-128, 127) as i8).collect()
        };
        weights.chunks_exact(self.inputs).enumerate().flat_map(of_row).collect()
    }

    /// What the codes of these weights stand for.
    fn rounded(&self, weights: &[f32], rounded: &mut [f32]) {
        let rows = weights.chunks_exact(self.inputs).zip(rounded.chunks_exact_mut(self.inputs));
        for (row, (weights, rounded)) in rows.enumerate() {
            let slice = self.slice(row);
            for (weight, rounded) in weights.iter().zip(rounded) {
                *rounded = self.params.real(self.params.code(*weight, slice), slice);
            }
        }
    }

    /// The part of a patch that a row reads.
    fn read<'p>(&self, patch: &'p [f32], row: usize) -> &'p [f32] {
        let group = row / (self.outputs / self.groups);
        &patch[group * self.inputs..(group + 1) * self.inputs]
    }

    fn output(&self, weights: &[f32], bias: &[f32], patch: &[f32], row: usize) -> f32 {
        dot(&weights[row * self.inputs..(row + 1) * self.inputs], self.read(patch, row)) + bias[row]
    }

    /// Trains; `start` is the bias to begin with. `None` where there is too little to train and judge with.
    pub(super) fn train(
        &self,
        start: &[f32],
        patches: &Patches,
        settings: &LayerwiseTuning,
        seed: u64,
    ) -> Option<Trained> {
        let width = self.groups * self.inputs;
        let held_out = patches.samples.len() / HELD_OUT;
        if held_out == 0 || width == 0 || !self.outputs.is_multiple_of(self.groups) {
            return None;
        }
        let (mut targets, mut inputs) = (Vec::new(), Vec::new());
        for sample in &patches.samples {
            let of_patch = |patch: &[f32]| -> Vec<f32> {
                (0..self.outputs).map(|row| self.output(&self.weights, &self.bias, patch, row)).collect()
            };
            targets.push(sample.chunks_exact(width).flat_map(of_patch).collect::<Vec<f32>>());
            inputs.push(sample.iter().map(|x| self.input.real(self.input.code(*x, 0), 0)).collect::<Vec<f32>>());
        }
        let seen = inputs.len() - held_out;
        // Rows are problems of their own, so each is judged by itself.
        let errors = |samples: Range<usize>, weights: &[f32], bias: &[f32]| -> Vec<f64> {
            let (mut sums, mut count) = (vec![0.0; self.outputs], 0.0);
            for (input, targets) in inputs[samples.clone()].iter().zip(&targets[samples]) {
                for (patch, targets) in input.chunks_exact(width).zip(targets.chunks_exact(self.outputs)) {
                    for (row, (sum, target)) in sums.iter_mut().zip(targets).enumerate() {
                        let error = f64::from(self.output(weights, bias, patch, row) - target);
                        *sum += error * error;
                    }
                    count += 1.0;
                }
            }
            sums.into_iter().map(|sum| sum / count).collect()
        };

        let ends = [self.params.code_min, self.params.code_max];
        let (mut weights, mut bias) = (self.weights.clone(), start.to_vec());
        let mut rounded = vec![0.0; weights.len()];
        self.rounded(&weights, &mut rounded);
        let before = errors(seen..inputs.len(), &rounded, &bias);
        // Codes at a boundary go to and fro, so the last step is not the best one.
        let mut best = Best { errors: errors(0..seen, &rounded, &bias), weights: weights.clone(), bias: bias.clone() };
        let mut random = SplitMix64::new(seed);
        let (mut of_weights, mut of_bias) = (Adam::new(weights.len(), WEIGHT_RATE), Adam::new(bias.len(), BIAS_RATE));
        let (mut weight_gradients, mut bias_gradients) = (vec![0.0; weights.len()], vec![0.0; bias.len()]);
        let steps = settings.samples.div_ceil(settings.batch_size.max(1));
        let between = steps.div_ceil(LOOKS).max(1);
        for step in 1..=steps {
            weight_gradients.fill(0.0);
            bias_gradients.fill(0.0);
            let mut count = 0.0;
            for _ in 0..settings.batch_size.max(1) {
                let sample = random.below(seen as u64) as usize;
                let pairs = inputs[sample].chunks_exact(width).zip(targets[sample].chunks_exact(self.outputs));
                for (patch, targets) in pairs {
                    for (row, target) in targets.iter().enumerate() {
                        let error = self.output(&rounded, &bias, patch, row) - target;
                        bias_gradients[row] += error;
                        let gradients = &mut weight_gradients[row * self.inputs..(row + 1) * self.inputs];
                        gradients.iter_mut().zip(self.read(patch, row)).for_each(|(sum, x)| *sum += error * x);
                    }
                    count += self.outputs as f32;
                }
            }
            let scale = 2.0 / count;
            bias_gradients.iter_mut().for_each(|gradient| *gradient *= scale);
            for (row, gradients) in weight_gradients.chunks_exact_mut(self.inputs).enumerate() {
                let [low, high] = ends.map(|code| self.params.real(code, self.slice(row)));
                let own = &weights[row * self.inputs..(row + 1) * self.inputs];
                for (gradient, weight) in gradients.iter_mut().zip(own) {
                    let passed = if (low..=high).contains(weight) { 1.0 } else { LEAK };
                    *gradient = *gradient * scale * passed + settings.weight_decay as f32 * weight;
                }
            }
            of_weights.step(&mut weights, &weight_gradients);
            of_bias.step(&mut bias, &bias_gradients);
            self.rounded(&weights, &mut rounded);
            if step.is_multiple_of(between) || step == steps {
                best.improve(errors(0..seen, &rounded, &bias), &weights, &bias);
            }
        }
        self.rounded(&best.weights, &mut rounded);
        let after = errors(seen..inputs.len(), &rounded, &best.bias);
        let mut held = Best { errors: before.clone(), weights: self.weights.clone(), bias: start.to_vec() };
        held.improve(after, &best.weights, &best.bias);
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        let errors = [mean(&before), mean(&held.errors)];
        Some(Trained { codes: self.codes_of(&held.weights), bias: held.bias, errors })
    }
}

/// The best that was seen of every row.
struct Best {
    /// Mean squared errors.
    errors: Vec<f64>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Best {
    /// Takes the rows that have smaller errors.
    fn improve(&mut self, errors: Vec<f64>, weights: &[f32], bias: &[f32]) {
        let inputs = weights.len() / errors.len().max(1);
        for (row, error) in errors.into_iter().enumerate() {
            if error < self.errors[row] {
                let own = row * inputs..(row + 1) * inputs;
                self.errors[row] = error;
                self.weights[own.clone()].copy_from_slice(&weights[own]);
                self.bias[row] = bias[row];
            }
        }
    }
}

/// The sum of products: lanes side by side, then the lanes, then the rest.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_common::scheme::CodeType;

    fn params(code_type: CodeType, axis: Option<usize>, scales: &[f32], zero_point: i32) -> QuantParams {
        let (code_min, code_max) = match code_type {
            CodeType::I8 => (-127, 127),
            CodeType::U8 => (0, 255),
        };
        QuantParams {
            code_type,
            code_min,
            code_max,
            axis,
            scales: scales.to_vec(),
            zero_points: vec![zero_point; scales.len()],
        }
    }

    fn normal(random: &mut SplitMix64) -> f32 {
        (0..12).map(|_| random.below(1 << 20) as f32 / (1 << 20) as f32).sum::<f32>() - 6.0
    }

    const ROWS: usize = 4;
    const INPUTS: usize = 12;

    fn weights(seed: u64, count: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(seed);
        (0..count).map(|_| 0.1 * normal(&mut random)).collect()
    }

    /// Inputs that share most of what they are, as activations do: then errors of weights can make up for one another.
    fn patches(seed: u64, samples: usize, width: usize) -> Patches {
        let mut random = SplitMix64::new(seed);
        let of_sample = |random: &mut SplitMix64| -> Vec<f32> {
            let common = 1.0 + normal(random).abs();
            (0..4 * width).map(|_| common + 0.1 * normal(random)).collect()
        };
        Patches { samples: (0..samples).map(|_| of_sample(&mut random)).collect() }
    }

    fn settings() -> LayerwiseTuning {
        LayerwiseTuning { samples: 10_000, batch_size: 10, ..LayerwiseTuning::default() }
    }

    /// A layer on a coarse grid, one scale a row, of which steps of the optimizer cross a boundary now and then.
    fn trained(groups: usize, settings: &LayerwiseTuning, samples: usize) -> Option<Trained> {
        let (weight_params, input) =
            (params(CodeType::I8, Some(0), &[0.02; ROWS], 0), params(CodeType::U8, None, &[0.02], 0));
        let layer = Layer {
            outputs: ROWS,
            inputs: INPUTS,
            groups,
            weights: weights(3, ROWS * INPUTS),
            bias: vec![0.5, -0.25, 0.0, 1.0],
            params: &weight_params,
            input: &input,
        };
        layer.train(&layer.bias.clone(), &patches(5, samples, groups * INPUTS), settings, 1)
    }

    #[test]
    fn errors_on_samples_held_out_shrink() {
        for groups in [1, 2, 4] {
            let Trained { errors: [before, after], .. } = trained(groups, &settings(), 50).expect("enough samples");
            println!("{groups} groups: {before:.6} {after:.6}");
            assert!(after < 0.6 * before, "{groups} groups: {before} {after}");
        }
    }

    #[test]
    fn codes_move_by_few_steps_and_the_same_every_time() {
        let found = trained(1, &settings(), 50).expect("enough samples");
        assert_eq!(trained(1, &settings(), 50), Some(found.clone()));
        let plain: Vec<i8> = weights(3, ROWS * INPUTS).iter().map(|w| (w / 0.02).round_ties_even() as i8).collect();
        let moved: Vec<u8> = found.codes.iter().zip(&plain).map(|(new, old)| new.abs_diff(*old)).collect();
        assert!(moved.iter().any(|steps| *steps > 0) && moved.iter().all(|steps| *steps <= 1), "{moved:?}");
    }

    #[test]
    fn without_steps_nothing_changes() {
        let none = LayerwiseTuning { samples: 0, ..settings() };
        let found = trained(1, &none, 50).expect("enough samples");
        assert_eq!(found.errors[0], found.errors[1]);
        assert_eq!(found.bias, [0.5, -0.25, 0.0, 1.0]);
    }

    #[test]
    fn too_few_samples_to_hold_any_out_train_nothing() {
        assert_eq!(trained(1, &settings(), HELD_OUT - 1), None);
        assert!(trained(1, &settings(), HELD_OUT).is_some());
    }

    #[test]
    fn gradients_are_those_of_the_error_where_nothing_is_rounded() {
        // One weight, a grid far finer than a step: Adam's first step goes down the gradient by its rate.
        let (fine, input) = (params(CodeType::I8, None, &[1e-9], 0), params(CodeType::U8, None, &[1.0], 0));
        let layer = Layer {
            outputs: 1,
            inputs: 1,
            groups: 1,
            weights: vec![5e-8],
            bias: vec![0.0],
            params: &fine,
            input: &input,
        };
        let patches = Patches { samples: vec![vec![2.0]; 5] };
        let one = LayerwiseTuning { samples: 1, batch_size: 1, ..LayerwiseTuning::default() };
        let up = layer.train(&[-1.0], &patches, &one, 0).expect("enough samples");
        assert!((up.bias[0] + 1.0 - BIAS_RATE).abs() < 1e-6, "{:?}", up.bias);
        assert_eq!(up.codes, [127], "a weight that is too small grows to the end of the grid");
        let down = layer.train(&[1.0], &patches, &one, 0).expect("enough samples");
        assert_eq!((down.codes, down.bias[0] < 1.0), (vec![-127], true));
    }
}
