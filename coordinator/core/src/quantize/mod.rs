//! DefaultQuantization: where quantizers stand, what range each covers, and the corrected biases.

mod attributes;
pub mod bias_correction;
pub mod calibration;
pub mod default_quantization;
mod device;
#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod estimator_tests;
pub mod estimators;
pub mod explain;
mod full_bias;
#[cfg(test)]
mod full_bias_tests;
pub mod ignored;
mod layer_training;
pub mod layer_tuning;
#[cfg(test)]
mod layer_tuning_tests;
mod patterns;
pub mod placement;
#[cfg(test)]
mod placement_tests;
#[cfg(test)]
mod quantization_tests;
mod ranges;
mod roles;

pub use default_quantization::{Passes, Quantized, calibrate_and_quantize, quantize};
pub use placement::{Placement, Site, place};
