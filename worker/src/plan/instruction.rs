//! Instructions: one kernel call each, with everything decided but the buffers' contents.

use super::buffer::{Arena, Buffer, BufferId, BufferKind, BufferSpec};
use super::cache::Packed;
use super::chain::Chain;
use super::general::{General, IndexFault, Scratch};
use super::part::{FloatPart, Int8Finish, Int8Part};
use super::rearrange::Rearrangement;
use holdfast_common::graph::{OpId, ReduceKind};
use holdfast_kernels::float::{self, Binary, Blend, Divisor, Right, Unary, math};
use holdfast_kernels::int8::{
    AddU8, AverageCount, AverageOutput, CodeParams, Epilogue, Int8Error, Quantizer, add_u8, average_pool_u8,
    dequantize_u8_f32, max_pool_u8,
};
use holdfast_kernels::{ConvGeometry, Image, Isa};
use std::sync::Arc;

/// One call.
#[derive(Debug)]
pub struct Instruction {
    /// What is called.
    pub kernel: Kernel,
    /// The instruction set it was prepared for.
    pub isa: Isa,
    /// Buffers read.
    pub inputs: Vec<BufferId>,
    /// Buffer written.
    pub output: BufferId,
    /// Further buffers written, by chains that hand on several results.
    pub more: Vec<BufferId>,
    /// The geometry whose border must be filled first, because other geometries share the output's buffer.
    pub border: Option<BufferSpec>,
    /// The operations it carries out: one, or all that it has taken over.
    pub operations: Vec<OpId>,
}

/// The right operand of an element-wise operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// As large as the left one.
    Full(Image),
    /// One number, at this element.
    Scalar(usize),
    /// One number a channel, from this element on.
    Channels(usize),
    /// One number a pixel: an image of one channel.
    Pixels(Image),
}

/// Where an average of codes goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CodesFinish {
    /// To codes.
    Codes {
        /// Quant params of the input.
        input: CodeParams,
        /// Quant params of the output.
        output: CodeParams,
    },
    /// To floats.
    Float {
        /// Quant params of the input.
        input: CodeParams,
    },
}

/// A resize with its positions worked out.
#[derive(Debug, PartialEq)]
pub enum ResizeKernel {
    /// Nearest neighbour.
    Nearest {
        /// Input row of each output row.
        rows: Vec<usize>,
        /// Input column of each output column.
        columns: Vec<usize>,
    },
    /// Linear.
    Linear {
        /// Blend of each output row.
        rows: Vec<Blend>,
        /// Blend of each output column.
        columns: Vec<Blend>,
    },
}

/// The calls there are. Equal calls give equal results of equal inputs.
#[derive(Debug, PartialEq)]
pub enum Kernel {
    /// Codes × codes, dense or depthwise.
    ConvInt8 {
        /// Groups.
        parts: Vec<Int8Part>,
        /// Their weights.
        packed: Arc<Packed>,
    },
    /// Floats × floats, dense or depthwise.
    ConvFloat {
        /// Groups.
        parts: Vec<FloatPart>,
        /// Their weights.
        packed: Arc<Packed>,
    },
    /// Addition of codes.
    AddCodes {
        /// Parameters.
        add: AddU8,
        /// First operand.
        left: Image,
        /// Second operand.
        right: Image,
        /// Sum.
        output: Image,
    },
    /// Maximum pooling of codes.
    MaxPoolCodes {
        /// The window.
        geometry: ConvGeometry,
    },
    /// Average pooling of codes.
    AveragePoolCodes {
        /// The window.
        geometry: ConvGeometry,
        /// Whether padding counts.
        count: AverageCount,
        /// Where it goes.
        finish: CodesFinish,
    },
    /// Floats to codes.
    Quantize {
        /// Quant params.
        quantizer: Quantizer,
        /// Floats.
        input: Image,
        /// Codes.
        output: Image,
    },
    /// Codes to floats.
    Dequantize {
        /// Quant params.
        params: CodeParams,
        /// Codes.
        input: Image,
        /// Floats.
        output: Image,
    },
    /// Moves of codes or floats.
    Rearrange {
        /// The moves.
        rearrangement: Arc<Rearrangement>,
        /// What new elements hold (a code where codes move).
        fill: f32,
    },
    /// One input.
    Unary {
        /// Function.
        function: Unary,
        /// Argument.
        input: Image,
        /// Result.
        output: Image,
    },
    /// Two inputs.
    Binary {
        /// Function.
        function: Binary,
        /// Left operand.
        left: Image,
        /// Right operand.
        right: Operand,
        /// Result.
        output: Image,
    },
    /// Maximum pooling of floats.
    MaxPoolFloat {
        /// The window.
        geometry: ConvGeometry,
    },
    /// Average pooling of floats.
    AveragePoolFloat {
        /// The window.
        geometry: ConvGeometry,
        /// What it divides by.
        divisor: Divisor,
    },
    /// Mean of every channel over the whole image, written one after another from an offset.
    GlobalAverageFloat {
        /// The image.
        image: Image,
        /// Where the means begin.
        offset: usize,
    },
    /// Reduction of contiguous rows.
    ReduceRows {
        /// Which.
        kind: ReduceKind,
        /// Rows.
        rows: usize,
        /// Elements a row.
        len: usize,
    },
    /// Softmax over the channels of every pixel.
    Softmax {
        /// Whether the logarithm is taken.
        log: bool,
        /// Argument.
        input: Image,
        /// Result.
        output: Image,
    },
    /// Layer normalization of contiguous rows; inputs: x, gamma, beta.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Rows.
        rows: usize,
        /// Elements a row.
        len: usize,
    },
    /// Resampling.
    Resize {
        /// Positions.
        kernel: ResizeKernel,
        /// Input.
        from: Image,
        /// Output.
        to: Image,
    },
    /// An operation on whole row-major tensors.
    General(General),
    /// Neighbouring operations on the rows of one tensor.
    Chain(Chain),
}

impl Instruction {
    /// Whether it computes on codes.
    pub fn is_int8(&self) -> bool {
        if let Kernel::General(general) = &self.kernel {
            return general.is_int8();
        }
        matches!(
            self.kernel,
            Kernel::ConvInt8 { .. }
                | Kernel::AddCodes { .. }
                | Kernel::MaxPoolCodes { .. }
                | Kernel::AveragePoolCodes { .. }
        )
    }

    /// The kernel's name, for people who look where the time goes.
    pub fn name(&self) -> &'static str {
        match &self.kernel {
            Kernel::General(general) => general.name(),
            Kernel::ConvInt8 { .. } => "conv_int8",
            Kernel::ConvFloat { .. } => "conv_float",
            Kernel::AddCodes { .. } => "add_codes",
            Kernel::MaxPoolCodes { .. } => "max_pool_codes",
            Kernel::AveragePoolCodes { .. } => "average_pool_codes",
            Kernel::Quantize { .. } => "quantize",
            Kernel::Dequantize { .. } => "dequantize",
            Kernel::Rearrange { .. } => "rearrange",
            Kernel::Unary { .. } => "unary",
            Kernel::Binary { .. } => "binary",
            Kernel::MaxPoolFloat { .. } => "max_pool_float",
            Kernel::AveragePoolFloat { .. } => "average_pool_float",
            Kernel::GlobalAverageFloat { .. } => "global_average_float",
            Kernel::ReduceRows { .. } => "reduce_rows",
            Kernel::Softmax { .. } => "softmax",
            Kernel::LayerNorm { .. } => "layer_norm",
            Kernel::Resize { .. } => "resize",
            Kernel::Chain(_) => "chain",
        }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// An index in the data that is out of range.
    pub fn run(&self, arena: &mut Arena) -> Result<(), IndexFault> {
        let mut output = arena.take(self.output);
        let mut scratch = arena.take_scratch();
        let result = match &self.kernel {
            Kernel::Chain(chain) => {
                let mut more: Vec<Buffer> = self.more.iter().map(|id| arena.take(*id)).collect();
                let mut outputs: Vec<&mut Buffer> = std::iter::once(&mut output).chain(&mut more).collect();
                chain.run(self.isa, arena, &self.inputs, &mut scratch.blocks, &mut outputs);
                more.into_iter().zip(&self.more).for_each(|(buffer, id)| arena.put(*id, buffer));
                Ok(())
            }
            _ => self.write(arena, &mut scratch, &mut output),
        };
        arena.put_scratch(scratch);
        arena.put(self.output, output);
        result
    }

    /// Which input is added to a convolution's result.
    pub fn residual_input(&self) -> Option<usize> {
        let adds = matches!(self.kernel, Kernel::ConvInt8 { .. } | Kernel::ConvFloat { .. }) && self.inputs.len() == 2;
        adds.then_some(1)
    }

    /// Lets the residual of a convolution lie in its output; false where no kernel reads it there.
    pub fn accumulate(&mut self) -> bool {
        match &mut self.kernel {
            Kernel::ConvInt8 { parts, .. } if parts.len() == 1 => parts[0].accumulate(),
            Kernel::ConvFloat { parts, .. } if parts.len() == 1 => parts[0].accumulate(),
            _ => false,
        }
    }

    /// All buffers written.
    pub fn outputs(&self) -> impl Iterator<Item = &BufferId> {
        std::iter::once(&self.output).chain(&self.more)
    }

    fn write(&self, arena: &Arena, scratch: &mut Scratch, output: &mut Buffer) -> Result<(), IndexFault> {
        match (output, &self.kernel) {
            (Buffer::F32(data), kernel) => {
                if let Some(spec) = &self.border {
                    spec.fill_border(0.0, data.as_mut_slice());
                }
                if let Kernel::General(general) = kernel {
                    return general.write_floats(self.isa, arena, &self.inputs, scratch, data.as_mut_slice());
                }
                self.write_floats(arena, data.as_mut_slice());
            }
            (Buffer::U8(data), kernel) => {
                if let Some(spec @ BufferSpec { kind: BufferKind::U8 { fill }, .. }) = &self.border {
                    spec.fill_border(*fill, data.as_mut_slice());
                }
                if let Kernel::General(general) = kernel {
                    return general.write_codes(arena, &self.inputs, scratch, data.as_mut_slice());
                }
                self.write_codes(arena, data.as_mut_slice());
            }
            (Buffer::I64(data), Kernel::General(general)) => {
                return general.write_integers(arena, &self.inputs, data.as_mut_slice());
            }
            (Buffer::I64(data), Kernel::Rearrange { rearrangement, fill }) => {
                rearrangement.apply(|input| arena.i64(self.inputs[input]), *fill as i64, data.as_mut_slice());
            }
            (Buffer::I64(_), other) => unreachable!("{other:?} writes no integers"),
            (Buffer::Constant(_), other) => unreachable!("{other:?} writes no constants"),
        }
        Ok(())
    }

    fn write_codes(&self, arena: &Arena, output: &mut [u8]) {
        let isa = self.isa;
        let codes = |input: usize| arena.u8(self.inputs[input]);
        match &self.kernel {
            Kernel::ConvInt8 { parts, packed } => {
                for (index, part) in parts.iter().enumerate() {
                    let epilogue = match &part.finish {
                        Int8Finish::Codes(requant) => Epilogue::U8 { requant, output: &mut *output },
                        Int8Finish::Add { requant, add, in_place: true, .. } => {
                            Epilogue::U8Accumulate { requant, add, output: &mut *output }
                        }
                        Int8Finish::Add { requant, add, residual, in_place: false } => Epilogue::U8Add {
                            requant,
                            add,
                            residual: codes(1),
                            residual_image: *residual,
                            output: &mut *output,
                        },
                        Int8Finish::Float { .. } => unreachable!("lowering gives floats a float buffer"),
                    };
                    part.run(packed, index, codes(0), epilogue);
                }
            }
            Kernel::AddCodes { add, left, right, output: image } => {
                add_u8(isa, add, (codes(0), left), (codes(1), right), (output, image));
            }
            Kernel::MaxPoolCodes { geometry } => checked(max_pool_u8(isa, geometry, codes(0), output)),
            Kernel::AveragePoolCodes { geometry, count, finish } => {
                let CodesFinish::Codes { input, output: params } = *finish else {
                    unreachable!("lowering gives floats a float buffer")
                };
                let target = AverageOutput::U8 { params, output };
                checked(average_pool_u8(isa, geometry, *count, (codes(0), input.scale, input.zero_point), target));
            }
            Kernel::Quantize { quantizer, input, output: image } => {
                quantizer.run(isa, (arena.f32(self.inputs[0]), input), (output, image));
            }
            Kernel::Rearrange { rearrangement, fill } => {
                rearrangement.apply(codes, *fill as u8, output);
            }
            other => unreachable!("{other:?} writes floats"),
        }
    }

    fn write_floats(&self, arena: &Arena, output: &mut [f32]) {
        let isa = self.isa;
        let floats = |input: usize| arena.f32(self.inputs[input]);
        match &self.kernel {
            Kernel::ConvInt8 { parts, packed } => {
                for (index, part) in parts.iter().enumerate() {
                    let Int8Finish::Float { scales, shift, lo, hi } = &part.finish else {
                        unreachable!("lowering gives codes a code buffer")
                    };
                    let shift = shift.as_deref();
                    let epilogue = Epilogue::F32 { scale: scales, shift, lo: *lo, hi: *hi, output: &mut *output };
                    part.run(packed, index, arena.u8(self.inputs[0]), epilogue);
                }
            }
            Kernel::ConvFloat { parts, packed } => {
                for (index, part) in parts.iter().enumerate() {
                    let residual = part.residual.filter(|_| !part.in_place).map(|image| (floats(1), image));
                    part.run(packed, index, floats(0), residual, output);
                }
            }
            Kernel::AveragePoolCodes { geometry, count, finish } => {
                let (CodesFinish::Codes { input, .. } | CodesFinish::Float { input }) = *finish;
                let target = AverageOutput::F32 { lo: f32::NEG_INFINITY, hi: f32::INFINITY, output };
                let source = (arena.u8(self.inputs[0]), input.scale, input.zero_point);
                checked(average_pool_u8(isa, geometry, *count, source, target));
            }
            Kernel::Dequantize { params, input, output: image } => {
                let source = (arena.u8(self.inputs[0]), input);
                dequantize_u8_f32(isa, (params.scale, params.zero_point), source, (output, image));
            }
            Kernel::Rearrange { rearrangement, fill } => {
                rearrangement.apply(floats, *fill, output);
            }
            Kernel::Unary { function, input, output: image } => {
                for_each_row(&[*input, *image], |[from, to], len| {
                    float::unary(isa, *function, &floats(0)[from..from + len], &mut output[to..to + len]);
                });
            }
            Kernel::Binary { function, left, right, output: image } => {
                self.binary(arena, *function, left, right, image, output)
            }
            Kernel::MaxPoolFloat { geometry } => float::max_pool(isa, geometry, floats(0), output),
            Kernel::AveragePoolFloat { geometry, divisor } => {
                float::average_pool(isa, geometry, *divisor, floats(0), output);
            }
            Kernel::GlobalAverageFloat { image, offset } => {
                float::global_average_pool(isa, image, floats(0), &mut output[*offset..*offset + image.channels]);
            }
            Kernel::ReduceRows { kind, rows, len } => {
                for (row, reduced) in output[..*rows].iter_mut().enumerate() {
                    *reduced = reduce_row(isa, *kind, &floats(0)[row * len..(row + 1) * len]);
                }
            }
            Kernel::Softmax { log, input, output: image } => {
                for_each_row(&[*input, *image], |[from, to], len| {
                    let (from, to) = (&floats(0)[from..from + len], &mut output[to..to + len]);
                    match log {
                        false => float::softmax_rows(isa, image.channels, from, to),
                        true => float::log_softmax_rows(isa, image.channels, from, to),
                    }
                });
            }
            Kernel::LayerNorm { epsilon, rows, len } => {
                let total = rows * len;
                float::layer_norm_rows(
                    isa,
                    &floats(1)[..*len],
                    &floats(2)[..*len],
                    *epsilon,
                    &floats(0)[..total],
                    &mut output[..total],
                );
            }
            Kernel::Resize { kernel, from, to } => match kernel {
                ResizeKernel::Nearest { rows, columns } => {
                    float::resize_nearest(rows, columns, from, floats(0), to, output);
                }
                ResizeKernel::Linear { rows, columns } => {
                    float::resize_linear(isa, rows, columns, from, floats(0), to, output);
                }
            },
            other => unreachable!("{other:?} writes codes"),
        }
    }

    fn binary(
        &self,
        arena: &Arena,
        function: Binary,
        left: &Image,
        right: &Operand,
        image: &Image,
        output: &mut [f32],
    ) {
        let (a, b) = (arena.f32(self.inputs[0]), arena.f32(self.inputs[1]));
        match right {
            Operand::Full(right) => for_each_row(&[*left, *right, *image], |[l, r, to], len| {
                let right = Right::Same(&b[r..r + len]);
                float::binary(self.isa, function, &a[l..l + len], right, &mut output[to..to + len]);
            }),
            Operand::Scalar(at) => for_each_row(&[*left, *image], |[l, to], len| {
                float::binary(self.isa, function, &a[l..l + len], Right::Scalar(b[*at]), &mut output[to..to + len]);
            }),
            Operand::Channels(first) => for_each_row(&[*left, *image], |[l, to], len| {
                let right = Right::Channels(&b[*first..*first + image.channels]);
                float::binary(self.isa, function, &a[l..l + len], right, &mut output[to..to + len]);
            }),
            Operand::Pixels(right) => {
                for y in 0..image.height {
                    for x in 0..image.width {
                        let (l, to, len) = (left.at(y, x), image.at(y, x), image.channels);
                        let right = Right::Scalar(b[right.at(y, x)]);
                        float::binary(self.isa, function, &a[l..l + len], right, &mut output[to..to + len]);
                    }
                }
            }
        }
    }
}

/// Runs of equal length that are contiguous in all images: whole images, rows or pixels.
fn for_each_row<const N: usize>(images: &[Image; N], mut run: impl FnMut([usize; N], usize)) {
    let image = images[0];
    let dense_rows = images.iter().all(|image| image.pixel_stride == image.channels);
    let dense = dense_rows && images.iter().all(|image| image.row_stride == image.width * image.channels);
    if image.pixels() == 0 || image.channels == 0 {
        return;
    }
    if dense {
        return run(images.map(|image| image.offset), image.pixels() * image.channels);
    }
    for y in 0..image.height {
        if dense_rows {
            run(images.map(|image| image.at(y, 0)), image.width * image.channels);
            continue;
        }
        for x in 0..image.width {
            run(images.map(|image| image.at(y, x)), image.channels);
        }
    }
}

/// One row reduced to one element.
pub fn reduce_row(isa: Isa, kind: ReduceKind, row: &[f32]) -> f32 {
    match kind {
        ReduceKind::Mean => float::mean(isa, row),
        ReduceKind::Sum => float::sum(isa, row),
        ReduceKind::Max => float::max(isa, row),
        ReduceKind::Min => float::min(isa, row),
        ReduceKind::Prod => row.iter().product(),
        ReduceKind::L2 => float::sum_of_squares(isa, row).sqrt(),
        ReduceKind::L1 => float::sum_of_absolutes(isa, row, &mut Vec::new()),
        ReduceKind::SumSquare => float::sum_of_squares(isa, row),
        ReduceKind::LogSum => math::log(float::sum(isa, row)),
        ReduceKind::LogSumExp => float::log_sum_exp(isa, row, &mut Vec::new()),
    }
}

/// Geometry was checked when the plan was made, against the buffers it made itself.
fn checked(result: Result<(), Int8Error>) {
    if let Err(error) = result {
        unreachable!("a lowered geometry does not run: {error}");
    }
}
