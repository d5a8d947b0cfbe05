//! What the plans of all candidates share, so that one takes microseconds to prepare: packed weights, lists of moves.

use super::buffer::Stored;
use super::layout::{Layout, Placement};
use super::rearrange::{Matrices, Rearrangement};
use holdfast_common::Digest;
use holdfast_common::graph::{OpId, TensorId};
use holdfast_kernels::float::PackedF32;
use holdfast_kernels::int8::{CodeParams, PackedDepthwise, PackedWeights, Quantizer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Weights of one operation in one precision; one entry a convolution group.
#[derive(Debug)]
pub enum Packed {
    /// Floats for dense kernels.
    Float(Vec<PackedF32>),
    /// Floats for depthwise kernels, `[channel][kh][kw]`; these pack themselves, they are small.
    FloatDepthwise(Vec<f32>),
    /// Codes for dense kernels.
    Int8(Vec<PackedWeights>),
    /// Codes for depthwise kernels.
    Int8Depthwise(PackedDepthwise),
}

/// Packed weights are made once and shared: what is not the same is not equal.
impl PartialEq for Packed {
    fn eq(&self, other: &Packed) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Packed {}

/// What weights are packed under (a scheme for codes, the quant params for the floats that codes stand for, nothing for
/// the model's own floats) and the operation they are for.
type Key = (Option<Digest>, OpId);

/// The moves of one output of an operation (`None`: those of a broadcast) between these places, the output's last.
pub type MovesKey = (Option<(OpId, usize)>, Vec<Placement>);

/// Two lists of moves by their addresses, and which input of the second the first makes.
type Composed = (usize, usize, usize);

/// The composition, and the two lists, kept so that no others come to have their addresses.
type Composition = (Arc<Rearrangement>, [Arc<Rearrangement>; 2]);

/// A list of moves by its address, and the extents of the matrices it makes.
type Viewed = (usize, [usize; 2]);

/// Where the matrices come from, if at constant distances, and the list, kept so that no other comes to have its address.
type View = (Option<Arc<Matrices>>, Arc<Rearrangement>);

/// What has been packed and listed for one graph on one instruction set.
#[derive(Debug, Default)]
pub struct PackedCache {
    packed: Mutex<HashMap<Key, Arc<Packed>>>,
    moves: Mutex<HashMap<MovesKey, Arc<Rearrangement>>>,
    composed: Mutex<HashMap<Composed, Composition>>,
    views: Mutex<HashMap<Viewed, View>>,
    constants: Mutex<HashMap<(TensorId, Layout), Stored>>,
    quantizers: Mutex<HashMap<(u32, [u8; 3]), Quantizer>>,
}

impl PackedCache {
    /// The packed weights of an operation under the digest of a scheme or of quant params (`None`: the model's floats),
    /// packed now if they are not there yet.
    pub fn get<E>(
        &self,
        under: Option<Digest>,
        op: OpId,
        pack: impl FnOnce() -> Result<Packed, E>,
    ) -> Result<Arc<Packed>, E> {
        if let Some(known) = lock(&self.packed).get(&(under, op)) {
            return Ok(Arc::clone(known));
        }
        let packed = Arc::new(pack()?);
        Ok(Arc::clone(lock(&self.packed).entry((under, op)).or_insert(packed)))
    }

    /// The moves behind a key, listed now if they are not there yet.
    pub fn moves<E>(
        &self,
        key: MovesKey,
        list: impl FnOnce() -> Result<Rearrangement, E>,
    ) -> Result<Arc<Rearrangement>, E> {
        if let Some(known) = lock(&self.moves).get(&key) {
            return Ok(Arc::clone(known));
        }
        let moves = Arc::new(list()?);
        Ok(Arc::clone(lock(&self.moves).entry(key).or_insert(moves)))
    }

    /// The quantizer of these quant params, checked now if it was not before.
    pub fn quantizer(&self, params: CodeParams) -> Quantizer {
        let key = (params.scale.to_bits(), [params.zero_point, params.lo, params.hi]);
        if let Some(known) = lock(&self.quantizers).get(&key) {
            return *known;
        }
        let quantizer = Quantizer::new(params);
        *lock(&self.quantizers).entry(key).or_insert(quantizer)
    }

    /// A constant of the model in a layout, laid out now if it was not before.
    pub fn constant(&self, tensor: TensorId, layout: Layout, lay_out: impl FnOnce() -> Stored) -> Stored {
        if let Some(known) = lock(&self.constants).get(&(tensor, layout)) {
            return known.clone();
        }
        let stored = lay_out();
        lock(&self.constants).entry((tensor, layout)).or_insert(stored).clone()
    }

    /// Where moves take matrices of these extents from; found out now if it was not before.
    pub fn view(
        &self,
        moves: &Arc<Rearrangement>,
        extents: [usize; 2],
        find: impl FnOnce() -> Option<Matrices>,
    ) -> Option<Arc<Matrices>> {
        let key = (Arc::as_ptr(moves) as usize, extents);
        if let Some((known, _)) = lock(&self.views).get(&key) {
            return known.clone();
        }
        let view = (find().map(Arc::new), Arc::clone(moves));
        lock(&self.views).entry(key).or_insert(view).0.clone()
    }

    /// What `first` and then `second` do, when `first` makes this input of `second`; composed now if it was not before.
    pub fn composed<E>(
        &self,
        first: &Arc<Rearrangement>,
        second: &Arc<Rearrangement>,
        input: usize,
        list: impl FnOnce() -> Result<Rearrangement, E>,
    ) -> Result<Arc<Rearrangement>, E> {
        let key = (Arc::as_ptr(first) as usize, Arc::as_ptr(second) as usize, input);
        if let Some((known, _)) = lock(&self.composed).get(&key) {
            return Ok(Arc::clone(known));
        }
        let composition = (Arc::new(list()?), [Arc::clone(first), Arc::clone(second)]);
        Ok(Arc::clone(&lock(&self.composed).entry(key).or_insert(composition).0))
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
