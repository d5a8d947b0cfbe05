//! Zeros between and around an image's pixels, as a transposed convolution sees its input.

use super::{Builder, Layout, Placement, Value};
use crate::plan::PlanError;
use crate::plan::buffer::BufferKind;
use crate::plan::instruction::Kernel;
use crate::plan::rearrange::Recorder;
use holdfast_common::graph::OpId;

/// How far pixels move apart, by height and width.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    /// Distance of neighbours afterwards.
    pub steps: [usize; 2],
    /// Zeros before the first pixel; negative numbers cut.
    pub before: [isize; 2],
    /// Extents afterwards.
    pub extents: [usize; 2],
}

impl Builder<'_> {
    /// An image in its own buffer with zeros (or the code of zero) between its pixels; itself where nothing is asked.
    pub(super) fn spread_out(
        &mut self,
        id: OpId,
        input: &Value,
        kind: BufferKind,
        spread: Option<&Spread>,
    ) -> Result<Value, PlanError> {
        let Some(spread) = spread else { return Ok(input.clone()) };
        let from = input.placement.image;
        let shape = [&[1, from.channels], &spread.extents[..]].concat();
        let (placement, elements) = Placement::new(&shape, Layout::ChannelsLast, [0; 4]);
        let to = placement.image;
        // The pixel of the input that lies at a position, if one does.
        let source = |position: usize, axis: usize, extent: usize| {
            let from_first = position as isize - spread.before[axis];
            let index = usize::try_from(from_first).ok()?;
            (index % spread.steps[axis] == 0).then_some(index / spread.steps[axis]).filter(|index| *index < extent)
        };
        let list = || {
            let mut recorder = Recorder::default();
            for (y, x) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
                let pixel = source(y, 0, from.height).zip(source(x, 1, from.width));
                for channel in 0..to.channels {
                    match pixel {
                        Some((row, column)) => recorder.copy(0, from.at(row, column) + channel, to.at(y, x) + channel),
                        None => recorder.fill(to.at(y, x) + channel),
                    }
                }
            }
            Ok::<_, PlanError>(recorder.finish())
        };
        let places = vec![input.placement.clone(), placement.clone()];
        let rearrangement = self.cache.moves((Some((id, 0)), places), list)?;
        let buffer = self.allocate(kind, &placement, elements);
        let fill = match kind {
            BufferKind::U8 { fill } => f32::from(fill),
            BufferKind::F32 | BufferKind::I64 => 0.0,
        };
        self.emit(id, Kernel::Rearrange { rearrangement, fill }, vec![input.buffer], buffer);
        Ok(Value { buffer, placement })
    }
}
