//! stub
use holdfast_common::Digest;
use holdfast_common::evaluation::SampleIndex;
/// Samples of one purpose.
#[derive(Clone, Debug)]
pub struct SampleSet {
    /// Digest of the workload artifact.
    pub workload: Digest,
    /// Which samples, in order.
    pub samples: Vec<SampleIndex>,
}
