//! The multiply-accumulate steps in which the two instruction sets differ.

use std::arch::aarch64::*;
use std::arch::asm;

/// A way to multiply signed bytes exactly and add the products up in 32 bits.
pub(super) trait Multiply {
    /// Columns of a depthwise window that one step takes together.
    const SLOTS: usize;

    /// Adds the products of one depth group: the four bytes `LANE` of each input with one group of weights.
    ///
    /// # Safety
    /// The instruction set is present and `4 x REGISTERS` channels of weights are readable.
    unsafe fn group<const LANE: i32, const ROWS: usize, const REGISTERS: usize>(
        inputs: &[int8x16_t; ROWS],
        weights: *const i8,
        sums: &mut [[int32x4_t; REGISTERS]; ROWS],
    );

    /// Adds the products of `SLOTS` columns of 16 channels with the weights of each output.
    ///
    /// # Safety
    /// The instruction set is present, 16 bytes behind every column are readable, and so are
    /// `OUTPUTS x 16 x SLOTS` weights.
    unsafe fn columns<const OUTPUTS: usize>(
        row: *const u8,
        columns: &[usize],
        weights: *const i8,
        sums: &mut [[int32x4_t; 4]; OUTPUTS],
    );
}

/// Bytes less 128 as signed bytes.
///
/// # Safety
/// 16 bytes are readable.
#[inline(always)]
pub(super) unsafe fn load_signed(from: *const u8) -> int8x16_t {
    // SAFETY: the caller vouches for the bytes.
    unsafe { flip(vld1q_u8(from)) }
}

/// Four bytes less 128 in the first lane (and in the others).
///
/// # Safety
/// Four bytes are readable.
#[inline(always)]
pub(super) unsafe fn load_signed_group(from: *const u8) -> int8x16_t {
    // SAFETY: the caller vouches for the bytes.
    unsafe { flip(vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()))) }
}

#[inline(always)]
fn flip(bytes: uint8x16_t) -> int8x16_t {
    // SAFETY: every AArch64 machine that this crate is built for has the base vector instructions.
    unsafe { vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80))) }
}

/// The base set: products of 16 bits, which hold every product of two signed bytes, added to the sums in pairs.
pub(super) struct Base;

impl Base {
    /// Adds the products of 16 bytes to the sums of 8 channels, two bytes a channel.
    #[inline(always)]
    unsafe fn pairs(sums: &mut [int32x4_t], inputs: int8x16_t, weights: int8x16_t) {
        // SAFETY: as in `flip`.
        unsafe {
            sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(inputs), vget_low_s8(weights)));
            sums[1] = vpadalq_s16(sums[1], vmull_high_s8(inputs, weights));
        }
    }

    /// Half a group: the two bytes `PAIR` of each input.
    #[inline(always)]
    unsafe fn pair<const PAIR: i32, const ROWS: usize, const REGISTERS: usize>(
        inputs: &[int8x16_t; ROWS],
        weights: *const i8,
        sums: &mut [[int32x4_t; REGISTERS]; ROWS],
    ) {
        // SAFETY: the caller vouches for the weights.
        unsafe {
            let mut columns = [vdupq_n_s8(0); REGISTERS];
            for (v, column) in columns.iter_mut().enumerate().take(REGISTERS / 2) {
                *column = vld1q_s8(weights.add(v * 16));
            }
            for (sums, &input) in sums.iter_mut().zip(inputs) {
                let pair = vreinterpretq_s8_s16(vdupq_laneq_s16::<PAIR>(vreinterpretq_s16_s8(input)));
                for v in 0..REGISTERS / 2 {
                    Base::pairs(&mut sums[2 * v..2 * v + 2], pair, columns[v]);
                }
            }
        }
    }
}

impl Multiply for Base {
    const SLOTS: usize = 2;

    #[inline(always)]
    unsafe fn group<const LANE: i32, const ROWS: usize, const REGISTERS: usize>(
        inputs: &[int8x16_t; ROWS],
        weights: *const i8,
        sums: &mut [[int32x4_t; REGISTERS]; ROWS],
    ) {
        // SAFETY: passed on; a pair takes half a group's weights.
        unsafe {
            let second = weights.add(REGISTERS * 8);
            match LANE {
                0 => {
                    Base::pair::<0, ROWS, REGISTERS>(inputs, weights, sums);
                    Base::pair::<1, ROWS, REGISTERS>(inputs, second, sums);
                }
                1 => {
                    Base::pair::<2, ROWS, REGISTERS>(inputs, weights, sums);
                    Base::pair::<3, ROWS, REGISTERS>(inputs, second, sums);
                }
                2 => {
                    Base::pair::<4, ROWS, REGISTERS>(inputs, weights, sums);
                    Base::pair::<5, ROWS, REGISTERS>(inputs, second, sums);
                }
                _ => {
                    Base::pair::<6, ROWS, REGISTERS>(inputs, weights, sums);
                    Base::pair::<7, ROWS, REGISTERS>(inputs, second, sums);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn columns<const OUTPUTS: usize>(
        row: *const u8,
        columns: &[usize],
        weights: *const i8,
        sums: &mut [[int32x4_t; 4]; OUTPUTS],
    ) {
        // SAFETY: the caller vouches for the bytes and the weights.
        unsafe {
            let first = load_signed(row.add(columns[0]));
            let second = load_signed(row.add(columns[1]));
            let (low, high) = (vzip1q_s8(first, second), vzip2q_s8(first, second));
            for (output, sums) in sums.iter_mut().enumerate() {
                let weights = weights.add(output * 32);
                Base::pairs(&mut sums[..2], low, vld1q_s8(weights));
                Base::pairs(&mut sums[2..], high, vld1q_s8(weights.add(16)));
            }
        }
    }
}

/// The dot-product instructions: four products a lane. The standard library's intrinsics for them are not stable.
pub(super) struct Dotprod;

impl Dotprod {
    /// Adds, lane by lane, four products of the weights with the four bytes `LANE` of the input.
    ///
    /// # Safety
    /// The machine has the dot-product instructions, and the function this is inlined into enables them.
    #[inline(always)]
    unsafe fn by_lane<const LANE: i32>(sum: int32x4_t, weights: int8x16_t, input: int8x16_t) -> int32x4_t {
        let mut total = sum;
        // SAFETY: the caller vouches for the instruction, which touches nothing but these registers.
        unsafe {
            asm!(
                "sdot {total:v}.4s, {weights:v}.16b, {input:v}.4b[{lane}]",
                total = inout(vreg) total,
                weights = in(vreg) weights,
                input = in(vreg) input,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        total
    }

    /// Adds, lane by lane, four products.
    ///
    /// # Safety
    /// As [`Dotprod::by_lane`].
    #[inline(always)]
    unsafe fn by_vector(sum: int32x4_t, weights: int8x16_t, input: int8x16_t) -> int32x4_t {
        let mut total = sum;
        // SAFETY: the caller vouches for the instruction, which touches nothing but these registers.
        unsafe {
            asm!(
                "sdot {total:v}.4s, {weights:v}.16b, {input:v}.16b",
                total = inout(vreg) total,
                weights = in(vreg) weights,
                input = in(vreg) input,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        total
    }
}

impl Multiply for Dotprod {
    const SLOTS: usize = 4;

    #[inline(always)]
    unsafe fn group<const LANE: i32, const ROWS: usize, const REGISTERS: usize>(
        inputs: &[int8x16_t; ROWS],
        weights: *const i8,
        sums: &mut [[int32x4_t; REGISTERS]; ROWS],
    ) {
        // SAFETY: the caller vouches for the instruction set and the weights.
        unsafe {
            for v in 0..REGISTERS {
                let column = vld1q_s8(weights.add(v * 16));
                for r in 0..ROWS {
                    sums[r][v] = Dotprod::by_lane::<LANE>(sums[r][v], column, inputs[r]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn columns<const OUTPUTS: usize>(
        row: *const u8,
        columns: &[usize],
        weights: *const i8,
        sums: &mut [[int32x4_t; 4]; OUTPUTS],
    ) {
        // SAFETY: the caller vouches for the instruction set, the bytes and the weights.
        unsafe {
            let mut pixels = [vdupq_n_s8(0); 4];
            for (pixel, &column) in pixels.iter_mut().zip(columns) {
                *pixel = load_signed(row.add(column));
            }
            // Bytes of two columns, then pairs of two pairs: four neighbours of a channel become one lane.
            let zip = |a, b| (vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b)));
            let (first_low, first_high) = zip(pixels[0], pixels[1]);
            let (second_low, second_high) = zip(pixels[2], pixels[3]);
            let lanes = [
                vreinterpretq_s8_s16(vzip1q_s16(first_low, second_low)),
                vreinterpretq_s8_s16(vzip2q_s16(first_low, second_low)),
                vreinterpretq_s8_s16(vzip1q_s16(first_high, second_high)),
                vreinterpretq_s8_s16(vzip2q_s16(first_high, second_high)),
            ];
            for (output, sums) in sums.iter_mut().enumerate() {
                for (v, (sum, &lanes)) in sums.iter_mut().zip(&lanes).enumerate() {
                    *sum = Dotprod::by_vector(*sum, vld1q_s8(weights.add(output * 64 + v * 16)), lanes);
                }
            }
        }
    }
}
