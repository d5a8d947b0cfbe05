//! Products of two matrices of codes against the reference, bit for bit.

mod support;

use holdfast_kernels::Isa;
use holdfast_kernels::int8::{
    Epilogue, INPUT_SLACK, ProductScratch, ProductShape, ProductU8U8, Requant, RightLayout, reference,
};
use support::{Random, isas, seed};

struct Matrices {
    shape: ProductShape,
    zero_points: [u8; 2],
    left: Vec<u8>,
    right: Vec<u8>,
    requant: Requant,
    scale: Vec<f32>,
}

impl Matrices {
    fn random(random: &mut Random, shape: ProductShape) -> Matrices {
        let spread = 127.0 * 70.0 * (shape.depth.max(1) as f32).sqrt();
        let factors: Vec<f32> = (0..shape.columns).map(|_| 100.0 / spread * (0.25 + random.unit())).collect();
        let longest = shape.depth.max(shape.columns);
        let zero_points = match random.range(0, 3) {
            0 => [128, 128],
            1 => [0, 0],
            2 => [255, 255],
            _ => [random.next() as u8, random.next() as u8],
        };
        Matrices {
            shape,
            zero_points,
            left: random.bytes(shape.rows * shape.left_stride + shape.depth + INPUT_SLACK),
            right: random.bytes(shape.right.1 * longest),
            requant: Requant::new(factors.clone(), 100, 3, 250).unwrap(),
            scale: factors,
        }
    }

    fn outputs(&self, mut compute: impl FnMut(Epilogue<'_>)) -> (Vec<u8>, Vec<u32>) {
        let elements = self.shape.rows * self.shape.output_stride + 5;
        let (mut codes, mut floats) = (vec![0xA5; elements], vec![-123.25f32; elements]);
        compute(Epilogue::U8 { requant: &self.requant, output: &mut codes });
        let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
        compute(Epilogue::F32 { scale: &self.scale, shift: None, lo, hi, output: &mut floats });
        (codes, floats.into_iter().map(f32::to_bits).collect())
    }

    fn check(&self, isa: Isa, scratch: &mut ProductScratch) {
        let [a, b] = self.zero_points;
        let right = self.outputs(|epilogue| {
            reference::product(&self.shape, (&self.left, a), (&self.right, b), epilogue);
        });
        let product = ProductU8U8::new(isa, self.shape, self.zero_points).unwrap();
        let found = self.outputs(|epilogue| product.run(&self.left, &self.right, scratch, epilogue));
        assert!(found == right, "{isa} differs from the reference on {:?}, zero points {a} and {b}", self.shape);
    }
}

#[test]
fn products_of_every_layout_and_zero_point_are_exact() {
    let mut random = Random(seed(11));
    let mut scratch: Vec<(Isa, ProductScratch)> = isas().into_iter().map(|isa| (isa, Default::default())).collect();
    for round in 0..400 {
        let (rows, depth, columns) = (random.range(1, 20), random.range(1, 70), random.range(1, 140));
        let padding = if round % 3 == 0 { random.range(1, 9) } else { 0 };
        let right = match round % 2 {
            0 => (RightLayout::DepthMajor, columns + padding),
            _ => (RightLayout::ColumnMajor, depth + padding),
        };
        let shape = ProductShape {
            left_stride: depth + padding,
            right,
            output_stride: columns + padding,
            ..ProductShape::dense(rows, depth, columns)
        };
        let matrices = Matrices::random(&mut random, shape);
        // The space is used again, so that what an earlier product left there would show.
        scratch.iter_mut().for_each(|(isa, scratch)| matrices.check(*isa, scratch));
    }
}

#[test]
fn the_deepest_product_of_extreme_codes_does_not_overflow() {
    let depth = ProductShape::DEPTH_MAX;
    for isa in isas() {
        for (zero_points, codes, expected) in [([0, 0], [255, 255], 1.0), ([0, 255], [255, 0], -1.0)] {
            let product = ProductU8U8::new(isa, ProductShape::dense(1, depth, 1), zero_points).unwrap();
            let (left, right) = (vec![codes[0]; depth + INPUT_SLACK], vec![codes[1]; depth]);
            let mut output = [0.0f32];
            let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
            let epilogue = Epilogue::F32 { scale: &[1.0], shift: None, lo, hi, output: &mut output };
            product.run(&left, &right, &mut ProductScratch::default(), epilogue);
            assert_eq!(output, [(255 * 255 * depth) as f32 * expected], "{isa}");
        }
    }
    assert!(ProductU8U8::new(Isa::Scalar, ProductShape::dense(1, depth + 1, 1), [0, 0]).is_err());
}
