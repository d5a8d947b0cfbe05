//! What tests of the whole program share: the built program, its processes, arrays of samples, the digits' configuration, its results.

pub mod arrays;
pub mod mnist;
pub mod process;
pub mod program;
pub mod results;
