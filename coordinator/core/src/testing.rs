//! What the tests of this crate share: small graphs by hand, and a way to run futures that never wait.

use crate::accuracy_aware::{Problem, SampleSet};
use crate::evaluator::{Evaluator, EvaluatorError, Stage};
use holdfast_common::Digest;
use holdfast_common::dataset::Annotation;
use holdfast_common::evaluation::{Evaluation, SampleIndex, SampleResult, Statistic, StatisticSpec, Want};
use holdfast_common::graph::{
    BinaryKind, ConvAttributes, DataType, Graph, Op, OpId, OpKind, PoolAttributes, Tensor, TensorData, TensorId,
    UnaryKind,
};
use holdfast_common::metric::{Metric, MetricDefinition, MetricError, MetricSpec, Orientation, Outputs};
use holdfast_common::scheme::Scheme;
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Polls a future whose parts are all ready.
pub(crate) fn run_ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("the future waits for something");
}

/// Builds graphs in topological order. Every operation's output has the operation's name.
#[derive(Default)]
pub(crate) struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.graph.tensors.push(Tensor {
            name: name.to_owned(),
            data_type: DataType::F32,
            shape: shape.to_vec(),
            producer: None,
            consumers: Vec::new(),
            constant: None,
        });
        TensorId(self.graph.tensors.len() - 1)
    }

    pub(crate) fn input(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let id = self.tensor(name, shape);
        self.graph.inputs.push(id);
        id
    }

    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> TensorId {
        let id = self.tensor(name, shape);
        let array = ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many values as the shape says");
        self.graph.tensors[id.0].constant = Some(Arc::new(TensorData::F32(array)));
        id
    }

    pub(crate) fn op(&mut self, name: &str, kind: OpKind, inputs: &[TensorId], shape: &[usize]) -> TensorId {
        let output = self.tensor(name, shape);
        let id = OpId(self.graph.ops.len());
        self.graph.tensors[output.0].producer = Some(id);
        for (position, input) in inputs.iter().enumerate() {
            self.graph.tensors[input.0].consumers.push((id, position));
        }
        self.graph.ops.push(Op { name: name.to_owned(), kind, inputs: inputs.to_vec(), outputs: vec![output] });
        output
    }

    pub(crate) fn shape(&self, tensor: TensorId) -> Vec<usize> {
        self.graph.tensor(tensor).shape.clone()
    }

    /// A convolution with constant weights that keeps the image size (over the stride).
    pub(crate) fn conv(&mut self, name: &str, x: TensorId, channels: usize, kernel: usize, stride: usize) -> TensorId {
        self.grouped_conv(name, x, channels, kernel, stride, 1)
    }

    pub(crate) fn grouped_conv(
        &mut self,
        name: &str,
        x: TensorId,
        channels: usize,
        kernel: usize,
        stride: usize,
        group: usize,
    ) -> TensorId {
        let shape = self.shape(x);
        let weights = [channels, shape[1] / group, kernel, kernel];
        let values = (0..weights.iter().product()).map(|i: usize| ((i * 7 % 11) as f32 - 5.0) / 10.0).collect();
        let weights = self.constant(&format!("{name}.weight"), &weights, values);
        let bias = self.constant(&format!("{name}.bias"), &[channels], vec![0.25; channels]);
        let attributes = conv_attributes(kernel, stride, kernel / 2, group);
        let output = [shape[0], channels, shape[2].div_ceil(stride), shape[3].div_ceil(stride)];
        self.op(name, OpKind::Conv(attributes), &[x, weights, bias], &output)
    }

    pub(crate) fn gemm(&mut self, name: &str, x: TensorId, features: usize) -> TensorId {
        let depth = self.shape(x)[1];
        let values = (0..features * depth).map(|i| ((i * 5 % 13) as f32 - 6.0) / 10.0).collect();
        let weights = self.constant(&format!("{name}.weight"), &[features, depth], values);
        let bias = self.constant(&format!("{name}.bias"), &[features], vec![0.5; features]);
        let kind = OpKind::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let batch = self.shape(x)[0];
        self.op(name, kind, &[x, weights, bias], &[batch, features])
    }

    pub(crate) fn unary(&mut self, name: &str, kind: UnaryKind, x: TensorId) -> TensorId {
        let shape = self.shape(x);
        self.op(name, OpKind::Unary(kind), &[x], &shape)
    }

    pub(crate) fn relu(&mut self, name: &str, x: TensorId) -> TensorId {
        self.unary(name, UnaryKind::Relu, x)
    }

    pub(crate) fn binary(&mut self, name: &str, kind: BinaryKind, a: TensorId, b: TensorId) -> TensorId {
        let shape = self.shape(a);
        self.op(name, OpKind::Binary(kind), &[a, b], &shape)
    }

    pub(crate) fn add(&mut self, name: &str, a: TensorId, b: TensorId) -> TensorId {
        self.binary(name, BinaryKind::Add, a, b)
    }

    /// A binary operation with a scalar constant.
    pub(crate) fn scalar(&mut self, name: &str, kind: BinaryKind, x: TensorId, value: f32) -> TensorId {
        let constant = self.constant(&format!("{name}.constant"), &[1], vec![value]);
        self.binary(name, kind, x, constant)
    }

    pub(crate) fn max_pool(&mut self, name: &str, x: TensorId) -> TensorId {
        let shape = self.shape(x);
        let attributes = PoolAttributes {
            kernel: vec![3, 3],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads_begin: vec![1, 1],
            pads_end: vec![1, 1],
            count_include_pad: false,
        };
        self.op(name, OpKind::MaxPool(attributes), &[x], &shape)
    }

    pub(crate) fn concat(&mut self, name: &str, inputs: &[TensorId]) -> TensorId {
        let mut shape = self.shape(inputs[0]);
        shape[1] = inputs.iter().map(|input| self.shape(*input)[1]).sum();
        self.op(name, OpKind::Concat { axis: 1 }, inputs, &shape)
    }

    pub(crate) fn finish(mut self, outputs: &[TensorId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

pub(crate) fn conv_attributes(kernel: usize, stride: usize, pad: usize, group: usize) -> ConvAttributes {
    ConvAttributes {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
        group,
        output_padding: vec![0; 2],
    }
}

/// A chain of convolutions with these names, a rectifier after each.
pub(crate) fn chain(names: &[&str]) -> Graph {
    let mut builder = GraphBuilder::default();
    let mut x = builder.input("image", &[1, 2, 4, 4]);
    for name in names {
        x = builder.conv(name, x, 2, 3, 1);
        x = builder.relu(&format!("{name}.relu"), x);
    }
    builder.finish(&[x])
}

/// Two calibration and five validation samples.
pub(crate) fn small_problem<'a>(graph: &'a Graph, metrics: &'a [(MetricSpec, Box<dyn Metric>)]) -> Problem<'a> {
    Problem {
        graph,
        calibration: samples(b"calibration", 2),
        validation: samples(b"validation", 5),
        baseline: None,
        metrics,
        labels: None,
    }
}

/// What a [`TableEvaluator`] answers.
type Answer<'a> = dyn Fn(Stage, &Evaluation, &BTreeMap<Digest, Vec<u8>>) -> Vec<SampleResult> + Sync + 'a;

/// Answers from a function of the evaluation and what was published; remembers what was asked.
///
/// One type for all tests, so that the algorithm is compiled once for them.
pub(crate) struct TableEvaluator<'a> {
    pub(crate) answer: Box<Answer<'a>>,
    pub(crate) published: Mutex<BTreeMap<Digest, Vec<u8>>>,
    pub(crate) asked: Mutex<Vec<(Stage, Vec<Evaluation>)>>,
}

impl<'a> TableEvaluator<'a> {
    pub(crate) fn new(
        answer: impl Fn(Stage, &Evaluation, &BTreeMap<Digest, Vec<u8>>) -> Vec<SampleResult> + Sync + 'a,
    ) -> TableEvaluator<'a> {
        TableEvaluator { answer: Box::new(answer), published: Mutex::default(), asked: Mutex::default() }
    }

    /// All batches of a stage, each as what was asked.
    pub(crate) fn batches(&self, stage: Stage) -> Vec<Vec<Evaluation>> {
        let asked = self.asked.lock().expect("no test thread panicked");
        asked.iter().filter(|(of, _)| *of == stage).map(|(_, batch)| batch.clone()).collect()
    }
}

impl Evaluator for TableEvaluator<'_> {
    async fn publish(&self, bytes: Vec<u8>) -> Result<Digest, EvaluatorError> {
        let digest = Digest::of(&bytes);
        self.published.lock().expect("no test thread panicked").insert(digest, bytes);
        Ok(digest)
    }

    async fn evaluate(
        &self,
        stage: Stage,
        evaluations: Vec<Evaluation>,
    ) -> Result<Vec<Vec<SampleResult>>, EvaluatorError> {
        let published = self.published.lock().expect("no test thread panicked").clone();
        let answers = evaluations.iter().map(|evaluation| (self.answer)(stage, evaluation, &published)).collect();
        self.asked.lock().expect("no test thread panicked").push((stage, evaluations));
        Ok(answers)
    }
}

/// Answers a statistics evaluation with the same values for every sample.
pub(crate) fn statistics_answer(
    evaluation: &Evaluation,
    published: &BTreeMap<Digest, Vec<u8>>,
    values: impl Fn(&StatisticSpec) -> Vec<f64>,
) -> Vec<SampleResult> {
    let Want::Statistics(list) = &evaluation.want else { panic!("statistics are asked for") };
    let specs: Vec<StatisticSpec> = serde_json::from_slice(&published[list]).expect("a list of statistics");
    let sample = SampleResult { parts: specs.iter().map(values).collect() };
    vec![sample; evaluation.samples.len()]
}

/// The first so many samples.
pub(crate) fn samples(workload: &[u8], count: u32) -> SampleSet {
    SampleSet { workload: Digest::of(workload), samples: (0..count).map(SampleIndex).collect() }
}

/// A metric whose fold is the first number of the first contribution, and whose sample value is the second number.
pub(crate) struct TableMetric(pub(crate) Orientation);

impl Metric for TableMetric {
    fn orientation(&self) -> Orientation {
        self.0
    }

    fn contribution(&self, _: &Outputs<'_>, _: &Annotation) -> Result<Vec<f64>, MetricError> {
        Ok(Vec::new())
    }

    fn prediction(&self, _outputs: &Outputs<'_>) -> Result<Vec<f64>, MetricError> {
        panic!("predictions are not asked for")
    }

    fn sample_value(&self, contribution: &[f64]) -> Option<f64> {
        contribution.get(1).copied()
    }

    fn fold(&self, contributions: &mut dyn Iterator<Item = &[f64]>) -> Result<f64, MetricError> {
        let first = contributions.next().and_then(|contribution| contribution.first());
        first.copied().ok_or_else(|| MetricError::Empty { metric: "table".to_owned() })
    }
}

/// Declared table metrics with these names.
pub(crate) fn table_metrics(metrics: &[(&str, Orientation)]) -> Vec<(MetricSpec, Box<dyn Metric>)> {
    let declared = |(name, orientation): &(&str, Orientation)| {
        let definition = MetricDefinition::accuracy(1);
        let spec = MetricSpec { name: (*name).to_owned(), output: None, definition };
        (spec, Box::new(TableMetric(*orientation)) as Box<dyn Metric>)
    };
    metrics.iter().map(declared).collect()
}

/// Names of the groups that an evaluation keeps quantized, joined; `None` for the float model.
pub(crate) fn quantized_groups(evaluation: &Evaluation, published: &BTreeMap<Digest, Vec<u8>>) -> Option<String> {
    let digest = evaluation.candidate.scheme?;
    let scheme: Scheme = serde_json::from_slice(&published[&digest]).expect("a published scheme");
    let kept = scheme.group_ids().filter(|id| !evaluation.candidate.reverted.contains(id));
    Some(kept.map(|id| scheme.groups[id.0 as usize].name.clone()).collect())
}

/// Statistics that suit [`chain`]: every tensor within ±1, channel means of zero.
pub(crate) fn plain_statistics(spec: &StatisticSpec) -> Vec<f64> {
    match spec.statistic {
        Statistic::Mean => vec![0.0; 2],
        Statistic::Min => vec![-1.0],
        _ => vec![1.0],
    }
}
