"""Networks of the exact published architectures with random weights, as ONNX: speed does not depend on the weights.

Weights are He-initialized, batch normalization counts as folded into them, and the last convolution of every residual
branch is made small, so that activations keep their size and quantize as those of a trained network do.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IMAGE = (3, 224, 224)


class Network:
    """An ONNX graph in the making; every method returns the name of the tensor it makes."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def node(self, kind, inputs, **attributes):
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def conv(self, x, inputs, outputs, kernel, stride=1, groups=1, gain=1.0):
        shape = (outputs, inputs // groups, kernel, kernel)
        deviation = gain * np.sqrt(2 / np.prod(shape[1:]))
        weights = self.constant(self.random.normal(0, deviation, shape))
        bias = self.constant(self.random.normal(0, 0.1, outputs))
        pad = kernel // 2
        return self.node("Conv", [x, weights, bias], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
                         group=groups)

    def relu(self, x):
        return self.node("Relu", [x])

    def relu6(self, x):
        return self.node("Clip", [x, self.constant(0.0), self.constant(6.0)])

    def integers(self, values):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def linear(self, x, inputs, outputs):
        """A matrix product and a bias, as exporters write them: the bias is the first operand of an Add."""
        product = self.node("MatMul", [x, self.constant(self.random.normal(0, inputs ** -0.5, (inputs, outputs)))])
        return self.node("Add", [self.constant(self.random.normal(0, 0.1, outputs)), product])

    def layer_norm(self, x, channels):
        """Layer normalization in the primitives that exporters wrote before opset 17."""
        centred = self.node("Sub", [x, self.node("ReduceMean", [x], axes=[-1])])
        variance = self.node("ReduceMean", [self.node("Pow", [centred, self.constant(2.0)])], axes=[-1])
        deviation = self.node("Sqrt", [self.node("Add", [variance, self.constant(1e-12)])])
        scale = self.constant(self.random.normal(1, 0.1, channels))
        scaled = self.node("Mul", [self.node("Div", [centred, deviation]), scale])
        return self.node("Add", [scaled, self.constant(self.random.normal(0, 0.1, channels))])

    def gelu(self, x):
        """GELU in the primitives that exporters wrote before opset 20."""
        erf = self.node("Erf", [self.node("Div", [x, self.constant(np.sqrt(2))])])
        return self.node("Mul", [self.node("Mul", [x, self.node("Add", [erf, self.constant(1.0)])]), self.constant(0.5)])

    def classifier(self, x, channels):
        """Ends in an average over space and a classifier of 1000 classes."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weights = self.constant(self.random.normal(0, channels ** -0.5, (1000, channels)))
        x = self.node("Gemm", [x, weights, self.constant(np.zeros(1000))], transB=1)
        return self.model([("input", TensorProto.FLOAT, IMAGE)], (x, (1000,)))

    def model(self, inputs, output):
        value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, ["N", *shape])
        inputs, output = [value(*each) for each in inputs], value(output[0], TensorProto.FLOAT, output[1])
        graph = helper.make_graph(self.nodes, "network", inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def resnet(blocks, bottleneck):
    """ResNet (He et al. 2015); the bottleneck form has its stride on the 3x3 convolution."""
    net = Network(seed=1)
    x = net.relu(net.conv("input", 3, 64, 7, stride=2))
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        outputs = width * 4 if bottleneck else width
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            if bottleneck:
                y = net.relu(net.conv(x, channels, width, 1))
                y = net.relu(net.conv(y, width, width, 3, stride))
                y = net.conv(y, width, outputs, 1, gain=0.3)
            else:
                y = net.relu(net.conv(x, channels, width, 3, stride))
                y = net.conv(y, width, outputs, 3, gain=0.3)
            shortcut = x if stride == 1 and channels == outputs else net.conv(x, channels, outputs, 1, stride, gain=0.7)
            x, channels = net.relu(net.node("Add", [y, shortcut])), outputs
    return net.classifier(x, channels)


def mobilenet_v2():
    """MobileNetV2 (Sandler et al. 2018), width 1.0."""
    net = Network(seed=2)
    x, channels = net.relu6(net.conv("input", 3, 32, 3, stride=2)), 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, count, first_stride in stages:
        for block in range(count):
            stride, hidden = first_stride if block == 0 else 1, channels * expansion
            y = net.relu6(net.conv(x, channels, hidden, 1)) if expansion > 1 else x
            y = net.relu6(net.conv(y, hidden, hidden, 3, stride, groups=hidden))
            y = net.conv(y, hidden, outputs, 1, gain=0.7)
            x = net.node("Add", [x, y]) if stride == 1 and channels == outputs else y
            channels = outputs
    return net.classifier(net.relu6(net.conv(x, channels, 1280, 1)), 1280)


def efficientnet_lite0():
    """EfficientNet-Lite0 (2020): no squeeze-and-excitation, ReLU6, 3x3 and 5x5 depthwise convolutions."""
    net = Network(seed=3)
    x, channels = net.relu6(net.conv("input", 3, 32, 3, stride=2)), 32
    stages = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
    for expansion, outputs, count, first_stride, kernel in stages:
        for block in range(count):
            stride, hidden = first_stride if block == 0 else 1, channels * expansion
            y = net.relu6(net.conv(x, channels, hidden, 1)) if expansion > 1 else x
            y = net.relu6(net.conv(y, hidden, hidden, kernel, stride, groups=hidden))
            y = net.conv(y, hidden, outputs, 1, gain=0.7)
            x = net.node("Add", [x, y]) if stride == 1 and channels == outputs else y
            channels = outputs
    return net.classifier(net.relu6(net.conv(x, channels, 1280, 1)), 1280)


def minilm(layers, length):
    """MiniLM (Wang et al. 2020) with 384 channels and 12 heads, over sequences of one length; the mean of its tokens.

    The vocabulary is small: a table of embeddings is looked up, not multiplied with.
    """
    net, channels, heads, vocabulary = Network(seed=4), 384, 12, 1000
    width = channels // heads
    words = net.constant(net.random.normal(0, 1, (vocabulary, channels)))
    places = net.constant(net.random.normal(0, 0.3, (1, length, channels)))
    x = net.layer_norm(net.node("Add", [net.node("Gather", [words, "input_ids"]), places]), channels)
    mask = net.node("Cast", [net.node("Unsqueeze", ["attention_mask", net.integers([1, 2])])], to=TensorProto.FLOAT)
    mask = net.node("Mul", [net.node("Sub", [net.constant(1.0), mask]), net.constant(-10000.0)])
    split, join = net.integers([0, 0, heads, width]), net.integers([0, 0, channels])
    for _ in range(layers):
        heads_of = lambda order: net.node(
            "Transpose", [net.node("Reshape", [net.linear(x, channels, channels), split])], perm=order)
        query, key, value = heads_of([0, 2, 1, 3]), heads_of([0, 2, 3, 1]), heads_of([0, 2, 1, 3])
        scores = net.node("Div", [net.node("MatMul", [query, key]), net.constant(np.sqrt(width))])
        weights = net.node("Softmax", [net.node("Add", [scores, mask])], axis=-1)
        mixed = net.node("Transpose", [net.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
        mixed = net.linear(net.node("Reshape", [mixed, join]), channels, channels)
        x = net.layer_norm(net.node("Add", [mixed, x]), channels)
        inner = net.gelu(net.linear(x, channels, 4 * channels))
        x = net.layer_norm(net.node("Add", [net.linear(inner, 4 * channels, channels), x]), channels)
    x = net.node("ReduceMean", [x], axes=[1], keepdims=0)
    inputs = [("input_ids", TensorProto.INT64, (length,)), ("attention_mask", TensorProto.INT64, (length,))]
    return net.model(inputs, (x, (channels,)))


NETWORKS = {
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_lite0": efficientnet_lite0,
    "minilm6": lambda: minilm(layers=6, length=128),
}


def multiply_accumulates(model):
    """Products of one forward pass with batch 1."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    extents = lambda value: [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
    shapes = {value.name: extents(value) for value in [*graph.value_info, *graph.output, *graph.input]}
    shapes |= {constant.name: list(constant.dims) for constant in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and all(name in shapes for name in node.input):
            left, right = (shapes[name] for name in node.input[:2])
            depth = int(np.prod(right[1:])) if node.op_type == "Conv" else left[-1]
            total += int(np.prod(shapes.get(node.output[0], [0]))) * depth
    return total
