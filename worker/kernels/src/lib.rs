//! SIMD kernels and the plain reference that defines what they must compute, bit for bit; the only room for `unsafe`.
//!
//! Never here: the graph, threads, files, the environment, policy.

pub mod float;
pub mod general;
pub mod geometry;
pub mod image;
pub mod isa;

pub use geometry::{ConvGeometry, GeometryError, image_fits};
pub use image::Image;
pub use isa::Isa;

pub mod int8;
pub mod registry;
