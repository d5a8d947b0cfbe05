//! Operations without a kernel and schemes that do not fit are refused with a reason, never with a panic.

use crate::net::{Net, conv, values};
use holdfast_common::graph::{DataType, OpKind, UnaryKind};
use holdfast_common::scheme::QuantizerSite;
use holdfast_kernels::Isa;
use holdfast_worker::plan::{PackedCache, Plan, PlanError, Variant};
use ndarray::ArrayD;
use std::collections::BTreeSet;

/// One convolution of four channels to four, quantized, shown in codes.
fn network() -> Net {
    let mut net = Net::default();
    let x = net.input("x", &[1, 4, 5, 5]);
    let w = net.constant("w", &[4, 4, 3, 3], &values(1, 144));
    let b = net.constant("b", &[4], &values(2, 4));
    let kind = OpKind::Conv(conv([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], 1));
    let y = net.one("conv", kind, &[x, w, b], &[1, 4, 5, 5]);
    let relu = net.one("relu", OpKind::Unary(UnaryKind::Relu), &[y], &[1, 4, 5, 5]);
    let flat = net.one("flat", OpKind::Reshape, &[relu], &[1, 100]);
    net.output(flat);
    net.group(&["conv"]);
    net.activation(x, &[("conv", 0)], (0.01, 128));
    net.weights("conv", 0, &[0.01; 4]);
    net.activation(relu, &[("flat", 0)], (0.02, 0));
    net
}

fn refusal(net: &Net) -> PlanError {
    net.plan(Isa::best(), &BTreeSet::new()).map(|_| ()).unwrap_err()
}

/// The refusal of the network with one thing about its scheme changed.
fn with(change: impl FnOnce(&mut Net)) -> PlanError {
    let mut net = network();
    assert!(net.plan(Isa::best(), &BTreeSet::new()).is_ok(), "the network itself runs");
    change(&mut net);
    refusal(&net)
}

#[test]
fn an_operation_without_a_kernel_is_named() {
    for kind in
        [OpKind::ArgMax { axis: 1, keep_dims: true }, OpKind::Unary(UnaryKind::Elu { alpha: 1.0 }), OpKind::Cast]
    {
        let mut net = Net::default();
        let x = net.input("x", &[1, 4]);
        let y = net.one("the operation", kind, &[x], &[1, 4]);
        net.output(y);
        match Plan::new(&net.graph, Variant::Baseline, Isa::best(), &PackedCache::default(), &BTreeSet::new()) {
            Err(PlanError::Unsupported { operation, .. }) => assert_eq!(operation, "the operation"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_batch_within_a_sample_is_refused() {
    let mut net = Net::default();
    let x = net.input("x", &[2, 4, 5, 5]);
    let w = net.constant("w", &[4, 4, 1, 1], &values(1, 16));
    let y = net.one("conv", OpKind::Conv(conv([1, 1], [1, 1], [1, 1], [0; 4], 1)), &[x, w], &[2, 4, 5, 5]);
    net.output(y);
    assert!(matches!(refusal(&net), PlanError::Unsupported { .. }));
}

#[test]
fn an_input_of_integers_is_refused() {
    let mut net = Net::default();
    let x = net.input("ids", &[1, 4]);
    net.graph.tensors[x.0].data_type = DataType::I64;
    let y = net.one("neg", OpKind::Unary(UnaryKind::Neg), &[x], &[1, 4]);
    net.output(y);
    assert!(matches!(refusal(&net), PlanError::Unsupported { .. }));
}

#[test]
fn a_scheme_for_another_model_is_refused() {
    let rename = |site: &mut QuantizerSite| match site {
        QuantizerSite::Activation { readers, .. } => readers[0].0 = "elsewhere".to_owned(),
        QuantizerSite::Weight { operation, .. } => *operation = "elsewhere".to_owned(),
    };
    for quantizer in 0..3 {
        let error = with(|net| rename(&mut net.scheme.quantizers[quantizer].site));
        assert!(matches!(&error, PlanError::Scheme { problem } if problem.contains("elsewhere")), "{error}");
    }
    let error = with(|net| match &mut net.scheme.quantizers[0].site {
        QuantizerSite::Activation { tensor, .. } | QuantizerSite::Weight { tensor, .. } => *tensor = "w".to_owned(),
    });
    assert!(matches!(error, PlanError::Scheme { .. }), "{error}");
    let error = with(|net| match &mut net.scheme.quantizers[0].site {
        QuantizerSite::Activation { readers, .. } => readers[0].1 = 9,
        QuantizerSite::Weight { .. } => panic!("the first quantizer stands on an activation"),
    });
    assert!(matches!(error, PlanError::Scheme { .. }), "{error}");
}

#[test]
fn params_that_codes_cannot_have_are_refused() {
    for activation in [0, 2] {
        let changed = [
            with(|net| net.scheme.quantizers[activation].params.scales = vec![0.1, 0.2]),
            with(|net| net.scheme.quantizers[activation].params.scales = vec![0.0]),
            with(|net| net.scheme.quantizers[activation].params.scales = vec![f32::NAN]),
            with(|net| net.scheme.quantizers[activation].params.zero_points = vec![256]),
            with(|net| net.scheme.quantizers[activation].params.zero_points = vec![]),
            with(|net| net.scheme.quantizers[activation].params.code_min = -1),
            with(|net| net.scheme.quantizers[activation].params.code_max = -1),
            with(|net| {
                let params = &mut net.scheme.quantizers[activation].params;
                (params.code_min, params.code_max) = (200, 100);
            }),
            with(|net| {
                let params = &mut net.scheme.quantizers[activation].params;
                (params.code_min, params.zero_points) = (10, vec![5]);
            }),
        ];
        for error in changed {
            assert!(matches!(error, PlanError::Scheme { .. }), "{error}");
        }
    }
}

#[test]
fn weight_params_that_do_not_fit_the_weights_are_refused() {
    let errors = [
        with(|net| net.scheme.quantizers[1].params.scales = vec![0.01; 3]),
        with(|net| net.scheme.quantizers[1].params.scales = vec![-0.01; 4]),
        with(|net| net.scheme.quantizers[1].params.zero_points = vec![200; 4]),
        with(|net| net.scheme.quantizers[1].params.axis = Some(1)),
        with(|net| net.scheme.quantizers[1].params.axis = Some(7)),
        with(|net| net.scheme.quantizers[1].params.axis = None),
        with(|net| net.scheme.quantizers[1].params.code_max = 300),
        with(|net| net.scheme.quantizers[1].params.scales = vec![1e-30; 4]),
        with(|net| {
            net.scheme.biases.insert("conv".to_owned(), vec![0.0; 3]);
        }),
    ];
    for error in errors {
        assert!(matches!(error, PlanError::Scheme { .. } | PlanError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn a_sample_of_another_size_is_refused() {
    let net = network();
    let plan = net.plan(Isa::best(), &BTreeSet::new()).unwrap();
    let short = ArrayD::zeros(vec![1, 4, 5, 4]);
    assert!(matches!(plan.run_arrays(&[short]), Err(PlanError::Input { expected: 100, found: 80, .. })));
    assert!(matches!(plan.run_arrays(&[]), Err(PlanError::Input { found: 0, .. })));
}
