//! The bytes of one leaf of the memo store: the same columns that travel on the wire.

use super::WireError;
use super::parts::{columns_in, columns_out};
use super::tile::samples_in;
use crate::wire;
use holdfast_common::evaluation::{SampleIndex, SampleResult};
use prost::Message;

/// Bytes of some samples' results. All samples must have equally many parts, and there must be as many results as samples.
pub fn encode_leaf(samples: &[SampleIndex], results: &[SampleResult]) -> Vec<u8> {
    let samples = samples.iter().map(|sample| sample.0).collect();
    wire::StoredLeaf { samples, results: Some(columns_out(results)) }.encode_to_vec()
}

/// Reads what [`encode_leaf`] wrote.
///
/// # Errors
/// The bytes are no leaf.
pub fn decode_leaf(bytes: &[u8]) -> Result<Vec<(SampleIndex, SampleResult)>, WireError> {
    let leaf = wire::StoredLeaf::decode(bytes).map_err(|error| WireError::Bytes(error.to_string()))?;
    let samples = samples_in(leaf.samples)?;
    let results = columns_in(leaf.results.ok_or(WireError::Missing("results"))?, samples.len())?;
    Ok(samples.into_iter().zip(results).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_survives_its_bytes_and_a_cut_one_is_refused() {
        let samples: Vec<_> = (0..64).map(|i| SampleIndex(i * 3)).collect();
        let results: Vec<_> = (0..64).map(|i| SampleResult { parts: vec![vec![f64::from(i) / 3.0; 3]] }).collect();
        let bytes = encode_leaf(&samples, &results);
        let expected: Vec<_> = samples.into_iter().zip(results).collect();
        assert_eq!(decode_leaf(&bytes), Ok(expected));
        assert!(decode_leaf(&bytes[..bytes.len() - 3]).is_err());
        assert!(decode_leaf(b"").is_err());
    }
}
