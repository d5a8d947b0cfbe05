//! Plans on small graphs, compared bit for bit with slow loops that follow the definition.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chains;
mod defects;
mod int8;
mod moves;
mod net;
mod pools;
mod products;
mod runs;
mod share;
mod slow;
mod weights;
