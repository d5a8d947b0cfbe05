//! Running a prepared float kernel allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use holdfast_kernels::float::{self, ConvF32, DepthwiseF32, Divisor, Epilogue, PackedF32, Unary, WeightLayout};
use holdfast_kernels::{ConvGeometry, Image, Isa};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks of it.
struct Counting;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn prepared_kernels_run_without_allocating() {
    for isa in Isa::available() {
        let (input, input_len) = Image::bordered(9, 9, 20, [1; 4]);
        let output = Image::dense(9, 9, 20);
        let geometry = ConvGeometry {
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 1,
            input,
            output,
        };
        let source = vec![0.5; input_len];
        let (bias, mut result) = (vec![0.1; 20], vec![0.0; output.end()]);
        let packed = PackedF32::pack(isa, 20, 9, 20, &vec![0.25; 20 * 9 * 20]);
        let conv = ConvF32::new(isa, &geometry).expect("a sound geometry");
        let depthwise = DepthwiseF32::new(isa, &geometry, &vec![0.25; 20 * 9]).expect("a sound geometry");
        let matrix = ConvGeometry::matrix(9, 20, 20, 20, 20);
        let right = vec![0.5; 400];
        let mut scratch = PackedF32::empty(isa);
        scratch.reserve(20, 20);
        let residual = vec![1.0; output.end()];
        let epilogue = Epilogue { residual: Some((&residual, output)), ..Epilogue::bias(&bias) };
        let plain = Epilogue::bias(&bias);

        let before = ALLOCATIONS.with(Cell::get);
        conv.run(&packed, &source, &epilogue, &mut result);
        depthwise.run(&source, &epilogue, &mut result);
        for layout in [WeightLayout::OutputMajor, WeightLayout::DepthMajor] {
            float::gemm_f32(isa, &matrix, &source, &right, layout, 20, &mut scratch, &plain, &mut result);
        }
        float::max_pool(isa, &geometry, &source, &mut result);
        float::average_pool(isa, &geometry, Divisor::InsideTaps, &source, &mut result);
        float::unary_in_place(isa, Unary::Gelu, &mut result);
        float::softmax_rows(isa, 20, &right, &mut result[..400]);
        float::layer_norm_rows(isa, &bias, &bias, 1e-5, &right, &mut result[..400]);
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{isa}");
    }
}
