//! Float kernels: one defined order of operations each, the same bits on every instruction set.
//!
//! The order is part of each function's documentation and [`reference`] writes it out plainly. Two NaNs count as the
//! same result: which payload an operation keeps is not part of the contract.
//!
//! Slices and images are the caller's; nothing here allocates while it runs. Lengths that do not fit are a defect of
//! the plan that called, so functions assert them before touching memory and say so under "Panics".

mod conv;
mod dispatch;
mod pack;
mod peak;
pub mod reference;
mod tile;
mod vector;

pub use conv::{ConvF32, Epilogue, gemm_f32};
pub use pack::{PackedF32, WeightLayout};
pub use peak::{multiply_add_loop, multiply_add_loop_macs};
