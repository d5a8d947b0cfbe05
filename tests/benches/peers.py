"""Measures CPU time per image of Holdfast, ONNX Runtime and OpenVINO side by side.

    python peers.py VENV [--work FOLDER] [--models NAMES] [--batch N] [--threads N] [--rounds N] [--seconds S]

VENV is a virtual environment, made and filled from PyPI where it lacks something. HOLDFAST_BENCH names a folder with
`models/*.onnx`; without it only the networks of random weights are measured. The engines take turns within every
round, so that what else the machine does hits all of them; only ratios within a round are to be quoted.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import io
import os
import pathlib
import select
import statistics
import subprocess
import sys
import time
import venv

PACKAGES = ["numpy", "onnx", "onnxruntime", "openvino", "nncf"]
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BENCH_MODELS = {
    "resnet20": "resnet20_cifar10",
    "resnet56": "resnet56_cifar10",
    "efficientnet_lite0": "efficientnet_lite0",
    "kws": "kws_ds_cnn",
    "mnist": "mnist_dwcnn",
}
# Multiply-accumulate operations a second of one Zen 4 core at 3.69 GHz: 64 int8 and 16 float a clock.
PEAK = {"int8": 236e9, "float": 59e9}
SAMPLES = 8
ANSWER_SECONDS = 120


def enter(environment):
    """Makes sure that this runs in the environment and that the environment is complete."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    if pathlib.Path(sys.prefix).resolve() != environment.resolve():
        os.execv(python, [str(python), *sys.argv])
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *missing], check=True)
        importlib.invalidate_caches()


class Ours:
    """A process that answers every number of seconds with the CPU milliseconds an image took for that long."""

    def __init__(self, examples, model, inputs, threads, scheme=None):
        command = [examples / "logits", model, inputs, os.devnull, "--repeat", str(SAMPLES), "--threads", str(threads)]
        command += ["--scheme", scheme] if scheme else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)

    def measure(self, seconds):
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], seconds + ANSWER_SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise SystemExit("`logits --repeat` did not answer; run it by hand to see why")
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=ANSWER_SECONDS)


class Theirs:
    """Functions that run one batch each in this process, every one in a thread of its own."""

    def __init__(self, runs, batch):
        self.runs, self.batch = runs, batch
        for run in runs:
            for _ in range(max(1, SAMPLES // batch)):
                run()

    def measure(self, seconds):
        # The clock costs as much as a small network, so it is read once in about a thousandth of a second.
        start = time.perf_counter()
        self.runs[0]()
        chunk = max(1, int(0.001 / max(time.perf_counter() - start, 1e-7)))
        start, before = time.perf_counter(), time.process_time()

        def turn(run):
            count = 0
            while time.perf_counter() - start < seconds:
                for _ in range(chunk):
                    run()
                count += chunk
            return count

        if len(self.runs) == 1:
            count = turn(self.runs[0])
        else:
            with concurrent.futures.ThreadPoolExecutor(len(self.runs)) as pool:
                count = sum(pool.map(turn, self.runs))
        return (time.process_time() - before) / (count * self.batch) * 1e3

    def close(self):
        self.runs = []


def onnx_runtime(path, inputs, arguments):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def runner():
        binding = session.io_binding()
        for name, values in inputs.items():
            binding.bind_cpu_input(name, batch_of(values, arguments.batch))
        for output in session.get_outputs():
            binding.bind_output(output.name)
        return lambda: session.run_with_iobinding(binding)

    return Theirs([runner() for _ in range(arguments.threads)], arguments.batch)


def quantized_by_onnx_runtime(path, target, inputs, transformer):
    """QDQ with u8 activations and s8 weights per channel: the fast form on this kind of processor.

    Of transformers the products only: every node in QDQ is slower there.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            rows = range(len(next(iter(inputs.values()))))
            self.rows = iter({name: values[row:row + 1] for name, values in inputs.items()} for row in rows)

        def get_next(self):
            return next(self.rows, None)

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(target), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["MatMul"] if transformer else None,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


def openvino_model(path, inputs, arguments, quantized, transformer):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({name: [arguments.batch, *values.shape[1:]] for name, values in inputs.items()})
    if quantized:
        import logging

        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        rows = range(len(next(iter(inputs.values()))))
        dataset = nncf.Dataset([{name: batch_of(values[row:row + 1], arguments.batch) for name, values in inputs.items()}
                                for row in rows])
        kind = {"model_type": nncf.ModelType.TRANSFORMER} if transformer else {}
        with contextlib.redirect_stdout(io.StringIO()):
            model = nncf.quantize(model, dataset, subset_size=len(rows), **kind)
    # Without the precision hint layers in float become bf16 on processors that have it.
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": arguments.threads,
        "NUM_STREAMS": arguments.threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    })

    def runner():
        request = compiled.create_infer_request()
        for name, values in inputs.items():
            request.set_tensor(name, ov.Tensor(batch_of(values, arguments.batch).copy()))
        return request.infer

    return Theirs([runner() for _ in range(arguments.threads)], arguments.batch)


def batch_of(values, batch):
    """The first rows, repeated where there are too few."""
    import numpy as np

    return np.ascontiguousarray(np.resize(values, (batch, *values.shape[1:])))


def random_inputs(model):
    """Normally distributed floats; token indices, and masks of ones."""
    import numpy as np
    import onnx

    random, inputs = np.random.default_rng(0), {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [SAMPLES, *[dimension.dim_value or 32 for dimension in kind.shape.dim][1:]]
        if kind.elem_type == onnx.TensorProto.FLOAT:
            inputs[value.name] = random.standard_normal(shape).astype(np.float32)
        elif "mask" in value.name:
            inputs[value.name] = np.ones(shape, np.int64)
        else:
            inputs[value.name] = random.integers(0, 1000, shape)
    return inputs


def models(work):
    """Path of every model by name; networks of random weights are made where they are missing."""
    import networks
    import onnx

    found = {}
    for name, build in networks.NETWORKS.items():
        found[name] = work / f"{name}.onnx"
        if not found[name].exists():
            onnx.save(build(), found[name])
    bench = os.environ.get("HOLDFAST_BENCH")
    if bench:
        found.update({name: pathlib.Path(bench) / "models" / f"{file}.onnx" for name, file in BENCH_MODELS.items()})
    return found


def compare(name, path, arguments, examples):
    """Every engine's milliseconds in every round, and the products of one image."""
    import networks
    import numpy as np
    import onnx

    model = onnx.load(path)
    inputs = random_inputs(model)
    transformer = any(node.op_type == "Softmax" for node in model.graph.node)
    samples, scheme = [], arguments.work / f"{name}.json"
    for position, values in enumerate(inputs.values()):
        samples.append(str(arguments.work / f"{name}.{position}.npy"))
        np.save(samples[-1], values)
    samples = ",".join(samples)
    kind = ["--model-type", "transformer"] if transformer else []
    subprocess.run([examples / "scheme", path, samples, scheme, *kind], check=True, stdout=subprocess.DEVNULL)
    quantized = arguments.work / f"{name}.qdq.onnx"
    quantized_by_onnx_runtime(path, quantized, inputs, transformer)
    engines = {
        ("ours", "float"): Ours(examples, path, samples, arguments.threads),
        ("ours", "int8"): Ours(examples, path, samples, arguments.threads, scheme),
        ("ONNX Runtime", "float"): onnx_runtime(path, inputs, arguments),
        ("ONNX Runtime", "int8"): onnx_runtime(quantized, inputs, arguments),
        ("OpenVINO", "float"): openvino_model(path, inputs, arguments, False, transformer),
        ("OpenVINO", "int8"): openvino_model(path, inputs, arguments, True, transformer),
    }
    times = {engine: [] for engine in engines}
    for _ in range(arguments.rounds):
        for engine, runner in engines.items():
            times[engine].append(runner.measure(arguments.seconds))
    for runner in engines.values():
        runner.close()
    return times, networks.multiply_accumulates(model)


def row(name, times, products):
    """One line of the table."""
    cells = [name, f"{products / 1e6:.1f}"]
    for precision in ("float", "int8"):
        median = statistics.median(times["ours", precision])
        cells += [f"{median:.3f}", f"{100 * products / (median / 1e3) / PEAK[precision]:.0f} %"]
        for peer in ("ONNX Runtime", "OpenVINO"):
            pairs = zip(times[peer, precision], times["ours", precision])
            ratios = sorted(theirs / ours for theirs, ours in pairs)
            cells.append(f"{ratios[0]:.2f}-**{statistics.median(ratios):.2f}**-{ratios[-1]:.2f}")
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=REPOSITORY / "target" / "peers")
    parser.add_argument("--models", default="", help="names, separated by commas; all where it is missing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1, help="images the other engines take at once; ours takes one")
    parser.add_argument("--threads", type=int, default=1, help="threads, one batch each")
    parser.add_argument("--seconds", type=float, default=0.5, help="an engine's turn")
    arguments = parser.parse_args()
    enter(arguments.environment)
    examples = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "examples"
    if not (examples / "logits").exists():
        raise SystemExit("build the programs first: cargo build --release -p holdfast-tests --examples")
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = models(arguments.work)
    names = [name for name in arguments.models.split(",") if name] or list(known)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown models: {', '.join(unknown)}; there are {', '.join(known)}")
    print("| model | MMAC | float ms | of peak | ONNX Runtime / ours | OpenVINO / ours "
          "| int8 ms | of peak | ONNX Runtime / ours | OpenVINO / ours |")
    print("| --- |" + " ---: |" * 9, flush=True)
    for name in names:
        print(row(name, *compare(name, known[name], arguments, examples)), flush=True)


if __name__ == "__main__":
    main()
