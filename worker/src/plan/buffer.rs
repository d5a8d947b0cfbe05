//! The memory a plan runs in: aligned buffers with their fill, reused between values of one geometry.

use super::general::Scratch;
use holdfast_kernels::{Image, Isa};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes kernels like their rows to start at.
const ALIGNMENT: usize = 64;

/// Elements readable beyond the last one addressed; kernels read whole vectors.
pub const SLACK: usize = 64;

/// A buffer whose first element is aligned for vector loads.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy> Aligned<T> {
    /// `len` elements and [`SLACK`] more, all with this value.
    pub fn filled(len: usize, value: T) -> Aligned<T> {
        let spare = ALIGNMENT / size_of::<T>();
        let data = vec![value; len + SLACK + spare];
        let start = data.as_ptr().align_offset(ALIGNMENT).min(spare);
        Aligned { data, start, len: len + SLACK }
    }

    /// These elements, then as many of this value as make `len` of them and [`SLACK`] more.
    pub fn of(values: &[T], len: usize, value: T) -> Aligned<T> {
        let mut aligned = Aligned::filled(len.max(values.len()), value);
        aligned.as_mut_slice()[..values.len()].copy_from_slice(values);
        aligned
    }

    /// The elements, slack included.
    pub fn as_slice(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }

    /// The elements, slack included.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// Index of a value while a plan is built, of a buffer once it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub usize);

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// Floats; the border holds zeros.
    F32,
    /// Codes; the border holds the zero point.
    U8 {
        /// Code of real zero.
        fill: u8,
    },
    /// Integers and truth values, whatever their width in the model; no border.
    I64,
}

impl BufferKind {
    /// Whether the elements have the same type.
    pub fn is_like(self, other: BufferKind) -> bool {
        matches!(
            (self, other),
            (BufferKind::F32, BufferKind::F32)
                | (BufferKind::U8 { .. }, BufferKind::U8 { .. })
                | (BufferKind::I64, BufferKind::I64)
        )
    }
}

/// Kind and geometry of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferSpec {
    /// What it holds.
    pub kind: BufferKind,
    /// Where the interior lies.
    pub image: Image,
    /// Elements, border included.
    pub elements: usize,
}

impl BufferSpec {
    /// Bytes it takes, slack included.
    pub fn bytes(&self) -> usize {
        let size = match self.kind {
            BufferKind::F32 => size_of::<f32>(),
            BufferKind::U8 { .. } => 1,
            BufferKind::I64 => size_of::<i64>(),
        };
        (self.elements + SLACK) * size + ALIGNMENT
    }

    /// Whether elements around the interior must hold the fill.
    pub fn has_border(&self) -> bool {
        self.elements > self.image.pixels() * self.image.channels
    }

    /// Fills everything around the interior, and nothing in it.
    pub fn fill_border<T: Copy>(&self, fill: T, buffer: &mut [T]) {
        let image = &self.image;
        let mut outside = 0;
        for y in 0..image.height {
            buffer[outside..image.at(y, 0)].fill(fill);
            outside = image.at(y, 0) + image.width * image.pixel_stride;
        }
        buffer[outside..self.elements].fill(fill);
    }
}

/// The buffers one thread runs one plan in.
#[derive(Debug)]
pub struct Arena {
    buffers: Vec<Buffer>,
    /// What instructions work in beside buffers.
    scratch: Option<Scratch>,
    isa: Isa,
}

/// One buffer of any kind.
#[derive(Debug)]
pub enum Buffer {
    /// Floats.
    F32(Aligned<f32>),
    /// Codes.
    U8(Aligned<u8>),
    /// Integers.
    I64(Aligned<i64>),
    /// A constant, which all plans of a graph have in common.
    Constant(Stored),
}

/// A model input's buffer, to be written; integers of every width are 64 bits wide, truth values are 0 and 1.
#[derive(Debug)]
pub enum PortBuffer<'a> {
    /// Floats.
    F32(&'a mut [f32]),
    /// Integers.
    I64(&'a mut [i64]),
}

/// A constant's elements as they lie in its buffer.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Floats.
    F32(Arc<Aligned<f32>>),
    /// Integers.
    I64(Arc<Aligned<i64>>),
}

/// Most constants of two plans are one and the same, which is seen without looking at their elements.
impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        match (self, other) {
            (Stored::F32(a), Stored::F32(b)) => Arc::ptr_eq(a, b) || a.as_slice() == b.as_slice(),
            (Stored::I64(a), Stored::I64(b)) => Arc::ptr_eq(a, b) || a.as_slice() == b.as_slice(),
            (Stored::F32(_), Stored::I64(_)) | (Stored::I64(_), Stored::F32(_)) => false,
        }
    }
}

impl Arena {
    /// Allocates and fills everything a plan needs beside its constants.
    pub fn new(specs: &[BufferSpec], constants: &[(BufferId, Stored)], isa: Isa) -> Arena {
        let constants: HashMap<BufferId, &Stored> = constants.iter().map(|(id, stored)| (*id, stored)).collect();
        let make = |spec: &BufferSpec| match spec.kind {
            BufferKind::F32 => Buffer::F32(Aligned::filled(spec.elements, 0.0)),
            BufferKind::U8 { fill } => Buffer::U8(Aligned::filled(spec.elements, fill)),
            BufferKind::I64 => Buffer::I64(Aligned::filled(spec.elements, 0)),
        };
        let buffers = specs.iter().enumerate().map(|(index, spec)| match constants.get(&BufferId(index)) {
            Some(stored) => Buffer::Constant((*stored).clone()),
            None => make(spec),
        });
        Arena { buffers: buffers.collect(), scratch: None, isa }
    }

    /// Takes the working space out, to be written while buffers are read.
    pub fn take_scratch(&mut self) -> Scratch {
        self.scratch.take().unwrap_or_else(|| Scratch::new(self.isa))
    }

    /// Puts the working space back.
    pub fn put_scratch(&mut self, scratch: Scratch) {
        self.scratch = Some(scratch);
    }

    /// Takes a buffer out, to be written while others are read.
    pub fn take(&mut self, id: BufferId) -> Buffer {
        std::mem::replace(&mut self.buffers[id.0], Buffer::U8(Aligned::default()))
    }

    /// Puts a taken buffer back.
    pub fn put(&mut self, id: BufferId, buffer: Buffer) {
        self.buffers[id.0] = buffer;
    }

    /// Copies the contents of another arena's buffer, as much as both hold, into one of the same kind.
    pub fn copy(&mut self, to: BufferId, other: &Arena, from: BufferId) {
        fn copy<T: Copy>(from: &[T], to: &mut [T]) {
            let len = from.len().min(to.len());
            to[..len].copy_from_slice(&from[..len]);
        }
        match (&other.buffers[from.0], &mut self.buffers[to.0]) {
            (Buffer::F32(from), Buffer::F32(to)) => copy(from.as_slice(), to.as_mut_slice()),
            (Buffer::U8(from), Buffer::U8(to)) => copy(from.as_slice(), to.as_mut_slice()),
            (Buffer::I64(from), Buffer::I64(to)) => copy(from.as_slice(), to.as_mut_slice()),
            _ => unreachable!("equal contents are of one kind"),
        }
    }

    /// The floats of a buffer; a plan never asks for the wrong kind.
    pub fn f32(&self, id: BufferId) -> &[f32] {
        match &self.buffers[id.0] {
            Buffer::F32(data) => data.as_slice(),
            Buffer::Constant(Stored::F32(data)) => data.as_slice(),
            Buffer::U8(_) | Buffer::I64(_) | Buffer::Constant(Stored::I64(_)) => &[],
        }
    }

    /// The codes of a buffer; a plan never asks for the wrong kind.
    pub fn u8(&self, id: BufferId) -> &[u8] {
        match &self.buffers[id.0] {
            Buffer::U8(data) => data.as_slice(),
            Buffer::F32(_) | Buffer::I64(_) | Buffer::Constant(_) => &[],
        }
    }

    /// The integers of a buffer; a plan never asks for the wrong kind.
    pub fn i64(&self, id: BufferId) -> &[i64] {
        match &self.buffers[id.0] {
            Buffer::I64(data) => data.as_slice(),
            Buffer::Constant(Stored::I64(data)) => data.as_slice(),
            Buffer::F32(_) | Buffer::U8(_) | Buffer::Constant(Stored::F32(_)) => &[],
        }
    }

    /// A buffer for writing the plan's input; inputs are never codes.
    pub fn port(&mut self, id: BufferId) -> PortBuffer<'_> {
        match &mut self.buffers[id.0] {
            Buffer::F32(data) => PortBuffer::F32(data.as_mut_slice()),
            Buffer::I64(data) => PortBuffer::I64(data.as_mut_slice()),
            Buffer::U8(_) | Buffer::Constant(_) => PortBuffer::F32(&mut []),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_all_that_is_filled_again() {
        let (image, elements) = Image::bordered(2, 3, 2, [1, 2, 0, 1]);
        let spec = BufferSpec { kind: BufferKind::F32, image, elements };
        let mut buffer = vec![1u8; elements + 5];
        spec.fill_border(9, &mut buffer);
        let inside = |at: usize| (0..2).any(|y| (image.at(y, 0)..image.at(y, 2) + 2).contains(&at));
        for (at, element) in buffer.into_iter().enumerate() {
            assert_eq!(element, if inside(at) || at >= elements { 1 } else { 9 }, "element {at}");
        }
        assert!(spec.has_border());
        let dense = BufferSpec { kind: BufferKind::F32, image: Image::dense(2, 3, 2), elements: 12 };
        assert!(!dense.has_border());
    }

    #[test]
    fn buffers_are_aligned_filled_and_have_slack() {
        for len in [0, 1, 63, 64, 1000] {
            let floats = Aligned::filled(len, 1.5f32);
            assert_eq!(floats.as_slice().as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(floats.as_slice(), vec![1.5; len + SLACK]);
            let bytes = Aligned::filled(len, 7u8);
            assert_eq!(bytes.as_slice().as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(bytes.as_slice(), vec![7; len + SLACK]);
        }
    }
}
