//! Float kernels: one defined order of operations each, the same bits on every instruction set.
//!
//! The order is part of each function's documentation and [`mod@reference`] writes it out plainly. Two NaNs count as the
//! same result: which payload an operation keeps is not part of the contract.
//!
//! Slices and images are the caller's; nothing here allocates while it runs. Lengths that do not fit are a defect of
//! the plan that called, so functions assert them before touching memory and say so under "Panics".

mod conv;
mod depthwise;
mod dispatch;
mod elementwise;
mod layout;
pub mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod peak;
mod pool;
pub mod recurrent;
mod reduce;
pub mod reference;
mod resize;
mod rows;
mod statistics;
mod tile;
mod vector;

pub use conv::{ConvF32, Epilogue, gemm_f32};
pub use depthwise::DepthwiseF32;
pub use elementwise::{Binary, Right, Unary, binary, binary_in_place, unary, unary_in_place};
pub use layout::{copy_image, image_to_nchw, nchw_to_image};
pub use pack::{PackedF32, WeightLayout};
pub use peak::{multiply_add_loop, multiply_add_loop_macs};
pub use pool::{Divisor, average_pool, global_average_pool, max_pool};
pub use reduce::{dot, layer_norm_rows, log_softmax_rows, max, mean, min, min_max, softmax_rows, sum, sum_of_squares};
pub use resize::{Axis, Blend, Coordinates, Nearest, resize_linear, resize_nearest};
pub use rows::{group_normalize, local_response, log_sum_exp, lp_normalize, running_sum, sum_of_absolutes};
pub use statistics::{abs_max, channel_abs_max, channel_mean, channel_min_max, count_non_finite};
