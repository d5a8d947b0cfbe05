//! Products that read their operands where a transpose would have fetched them from.

use super::Builder;
use crate::plan::buffer::BufferId;
use crate::plan::general::{General, ProductPlace, Products};
use crate::plan::instruction::Kernel;
use crate::plan::rearrange::Matrices;
use holdfast_kernels::int8::{ProductShape, ProductU8U8, RightLayout};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

impl Builder<'_> {
    /// Lets products read through the moves before them, where these only turn matrices or take them apart.
    pub(super) fn read_through_moves(&mut self, forever: &BTreeSet<BufferId>) {
        let mut mover: HashMap<BufferId, usize> = HashMap::new();
        for index in 0..self.instructions.len() {
            let instruction = &self.instructions[index];
            if matches!(instruction.kernel, Kernel::Rearrange { .. }) && instruction.inputs.len() == 1 {
                mover.insert(instruction.output, index);
            }
            for operand in 0..2 {
                let Some(&made) = self.instructions[index].inputs.get(operand).and_then(|input| mover.get(input))
                else {
                    continue;
                };
                self.read_through(index, operand, made);
            }
        }
        let read: BTreeSet<BufferId> = self.instructions.iter().flat_map(|each| each.inputs.iter().copied()).collect();
        self.instructions.retain(|each| {
            let is_move = matches!(each.kernel, Kernel::Rearrange { .. });
            !is_move || read.contains(&each.output) || forever.contains(&each.output)
        });
    }

    /// Lets one product read one operand through a move, if it can.
    fn read_through(&mut self, index: usize, operand: usize, made: usize) {
        let Kernel::Rearrange { rearrangement, .. } = &self.instructions[made].kernel else { return };
        let (shape, places) = match &self.instructions[index].kernel {
            Kernel::General(General::ProductFloat(Products { shape, places })) => (*shape, places),
            Kernel::General(General::ProductCodes { product, places, .. }) => (product.shape(), places),
            _ => return,
        };
        let dense = ProductShape::dense(shape.rows, shape.depth, shape.columns);
        let (rows, columns) = if operand == 0 { (shape.rows, shape.depth) } else { (shape.depth, shape.columns) };
        let is_dense = if operand == 0 { shape.left_stride == dense.left_stride } else { shape.right == dense.right };
        let elements = self.specs[self.instructions[index].inputs[operand].0].elements;
        let list = || rearrangement.matrices(elements, [rows, columns]);
        let Some(view) = self.cache.view(rearrangement, [rows, columns], list).filter(|_| is_dense) else { return };
        let Some(shape) = strided(shape, operand, &view) else { return };
        let base = |at: usize| view.bases[at / (rows * columns)];
        let place = |place: &ProductPlace| match operand {
            0 => ProductPlace { left: base(place.left), ..*place },
            _ => ProductPlace { right: base(place.right), ..*place },
        };
        let moved: Vec<ProductPlace> = places.iter().map(place).collect();
        let source = self.instructions[made].inputs[0];
        let operations = self.instructions[made].operations.clone();
        let instruction = &mut self.instructions[index];
        match &mut instruction.kernel {
            Kernel::General(General::ProductFloat(products)) => *products = Products { shape, places: moved },
            Kernel::General(General::ProductCodes { product, places, .. }) => {
                let Ok(turned) = ProductU8U8::new(self.isa, shape, product.zero_points()) else { return };
                (**product, *places) = (turned, moved);
            }
            _ => return,
        }
        instruction.inputs[operand] = source;
        instruction.operations.extend(operations);
    }
}

/// A product's shape with one operand seen through a view; `None` where no kernel reads it so.
fn strided(shape: ProductShape, operand: usize, view: &Arc<Matrices>) -> Option<ProductShape> {
    match (operand, view.steps) {
        (0, [stride, 1]) if stride >= shape.depth => Some(ProductShape { left_stride: stride, ..shape }),
        (1, [stride, 1]) if stride >= shape.columns => {
            Some(ProductShape { right: (RightLayout::DepthMajor, stride), ..shape })
        }
        (1, [1, stride]) if stride >= shape.depth => {
            Some(ProductShape { right: (RightLayout::ColumnMajor, stride), ..shape })
        }
        _ => None,
    }
}
