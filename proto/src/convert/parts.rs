//! Per-sample results as columns: compact, and lossless to the last bit.

use super::{WireError, bounded};
use crate::{PARTS_MAX, wire};
use holdfast_common::evaluation::SampleResult;

/// Most (sample, part) pairs of one candidate's results: a bound on what a short message can expand to.
const PART_CELLS_MAX: usize = 1 << 22;

/// Columns of one candidate's results. All samples must have equally many parts.
pub(super) fn columns_out(results: &[SampleResult]) -> wire::CandidateResults {
    let parts = results.first().map_or(0, |result| result.parts.len());
    let columns = (0..parts)
        .map(|part| {
            let of = |result: &SampleResult| result.parts.get(part).map_or(0, Vec::len) as u32;
            let mut lengths: Vec<u32> = results.iter().map(of).collect();
            if lengths.iter().all(|length| Some(length) == lengths.first()) {
                lengths.truncate(1);
            }
            let values = || results.iter().filter_map(|result| result.parts.get(part)).flatten().copied();
            if values().all(is_single) {
                let floats = values().map(|value| value as f32).collect();
                wire::PartColumn { lengths, floats, doubles: Vec::new() }
            } else {
                wire::PartColumn { lengths, floats: Vec::new(), doubles: values().collect() }
            }
        })
        .collect();
    wire::CandidateResults { parts: columns }
}

/// Whether the value survives the way through `f32` with all its bits.
fn is_single(value: f64) -> bool {
    f64::from(value as f32).to_bits() == value.to_bits()
}

/// The results of `samples` samples.
pub(super) fn columns_in(results: wire::CandidateResults, samples: usize) -> Result<Vec<SampleResult>, WireError> {
    bounded("parts", results.parts.len(), PARTS_MAX)?;
    bounded("parts of samples", results.parts.len().saturating_mul(samples), PART_CELLS_MAX)?;
    let mut rows: Vec<SampleResult> =
        (0..samples).map(|_| SampleResult { parts: Vec::with_capacity(results.parts.len()) }).collect();
    for column in results.parts {
        column_in(column, &mut rows)?;
    }
    Ok(rows)
}

fn column_in(column: wire::PartColumn, rows: &mut [SampleResult]) -> Result<(), WireError> {
    let lengths = match column.lengths.as_slice() {
        [length] => vec![*length as usize; rows.len()],
        lengths if lengths.len() == rows.len() => lengths.iter().map(|length| *length as usize).collect(),
        lengths => return Err(WireError::Count { field: "lengths", count: lengths.len(), expected: rows.len() }),
    };
    let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length)).unwrap_or(usize::MAX);
    if !column.floats.is_empty() && !column.doubles.is_empty() {
        return Err(WireError::Count { field: "doubles beside floats", count: column.doubles.len(), expected: 0 });
    }
    let count = column.floats.len() + column.doubles.len();
    if count != total {
        return Err(WireError::Count { field: "values", count, expected: total });
    }
    let mut values = column.floats.into_iter().map(f64::from).chain(column.doubles);
    for (row, length) in rows.iter_mut().zip(lengths) {
        row.parts.push(values.by_ref().take(length).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn bits(results: &[SampleResult]) -> Vec<Vec<Vec<u64>>> {
        let part = |part: &Vec<f64>| part.iter().map(|value| value.to_bits()).collect();
        results.iter().map(|result| result.parts.iter().map(part).collect()).collect()
    }

    fn round_trip(results: &[SampleResult]) -> Vec<SampleResult> {
        let bytes = columns_out(results).encode_to_vec();
        let columns = wire::CandidateResults::decode(bytes.as_slice()).expect("own bytes decode");
        columns_in(columns, results.len()).expect("own columns convert")
    }

    #[test]
    fn every_bit_pattern_survives_the_columns() {
        let odd = [
            0.0,
            -0.0,
            1.0,
            0.1,
            f64::from(0.1f32),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0001),
            f64::from_bits(0xfff8_0000_dead_beef),
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::MAX,
            f64::from(f32::MIN_POSITIVE),
            f64::from(f32::from_bits(1)),
        ];
        for value in odd {
            let results = vec![SampleResult { parts: vec![vec![value], vec![]] }];
            assert_eq!(bits(&round_trip(&results)), bits(&results), "{value} {:#x}", value.to_bits());
        }
        let ragged = vec![
            SampleResult { parts: vec![odd.to_vec(), vec![1.0]] },
            SampleResult { parts: vec![vec![], vec![2.0]] },
            SampleResult { parts: vec![vec![3.5], vec![0.3]] },
        ];
        assert_eq!(bits(&round_trip(&ragged)), bits(&ragged));
    }

    #[test]
    fn hits_of_a_leaf_take_four_bytes_each() {
        let results: Vec<_> = (0..64).map(|i| SampleResult { parts: vec![vec![f64::from(i % 2)]] }).collect();
        let bytes = columns_out(&results).encoded_len();
        assert!(bytes <= 64 * 4 + 16, "{bytes} bytes");
    }

    #[test]
    fn columns_that_contradict_themselves_are_refused() {
        let column = |lengths: Vec<u32>, floats: Vec<f32>, doubles: Vec<f64>| wire::CandidateResults {
            parts: vec![wire::PartColumn { lengths, floats, doubles }],
        };
        assert!(columns_in(column(vec![1], vec![1.0, 2.0], vec![]), 2).is_ok());
        assert!(columns_in(column(vec![1], vec![1.0], vec![]), 2).is_err(), "a value too few");
        assert!(columns_in(column(vec![1], vec![1.0], vec![1.0]), 2).is_err(), "both kinds");
        assert!(columns_in(column(vec![1, 1, 0], vec![1.0, 2.0], vec![]), 2).is_err(), "a length too many");
        assert!(columns_in(column(vec![], vec![], vec![]), 2).is_err(), "no lengths");
        assert!(columns_in(column(vec![u32::MAX], vec![], vec![]), 2).is_err(), "a length nobody sent");
        let many = wire::CandidateResults {
            parts: vec![wire::PartColumn { lengths: vec![0], ..Default::default() }; 1 << 10],
        };
        assert!(columns_in(many, 1 << 16).is_err(), "a short message must not grow without bound");
    }
}
