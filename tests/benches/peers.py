"""Measures CPU time per image, one thread, batch 1, of Holdfast, ONNX Runtime and OpenVINO side by side.

    python peers.py VENV [--work FOLDER] [--models NAMES] [--rounds N] [--seconds S]

VENV is a virtual environment, made and filled from PyPI where it lacks something. HOLDFAST_BENCH names a folder with
`models/*.onnx`; without it only the networks of random weights are measured. The engines take turns within every
round, so that what else the machine does hits all of them; only ratios within a round are to be quoted.
"""

import argparse
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

    def __init__(self, examples, model, inputs, scheme=None):
        command = [examples / "logits", model, inputs, os.devnull, "--repeat", str(SAMPLES)]
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
    """A function that runs one image in this process, whose other threads have nothing to do."""

    def __init__(self, run):
        self.run = run
        for _ in range(SAMPLES):
            run()

    def measure(self, seconds):
        # The clock costs as much as a small network, so it is read once in about a thousandth of a second.
        start = time.perf_counter()
        self.run()
        chunk = max(1, int(0.001 / max(time.perf_counter() - start, 1e-7)))
        start, before, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(chunk):
                self.run()
            count += chunk
        return (time.process_time() - before) / count * 1e3

    def close(self):
        self.run = None


def onnx_runtime(path, inputs):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, inputs[:1])
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return Theirs(lambda: session.run_with_iobinding(binding))


def quantized_by_onnx_runtime(path, target, inputs):
    """QDQ with u8 activations and s8 weights per channel: the fast form on this kind of processor."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name):
            self.rows = iter({name: inputs[index:index + 1]} for index in range(len(inputs)))

        def get_next(self):
            return next(self.rows, None)

    import onnx

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    name = onnx.load(prepared).graph.input[0].name
    quantization.quantize_static(
        str(prepared), str(target), Reader(name), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


def openvino_model(path, inputs, quantized):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape([1, *inputs.shape[1:]])
    if quantized:
        import logging

        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        dataset = nncf.Dataset([inputs[index:index + 1] for index in range(len(inputs))])
        with contextlib.redirect_stdout(io.StringIO()):
            model = nncf.quantize(model, dataset, subset_size=len(inputs))
    # Without the precision hint layers in float become bf16 on processors that have it.
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    })
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(inputs[:1].copy()))
    return Theirs(request.infer)


def random_inputs(model):
    import numpy as np

    extents = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(0).standard_normal((SAMPLES, *extents)).astype(np.float32)


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
    samples, scheme = arguments.work / f"{name}.npy", arguments.work / f"{name}.json"
    np.save(samples, inputs)
    subprocess.run([examples / "scheme", path, samples, scheme], check=True, stdout=subprocess.DEVNULL)
    quantized = arguments.work / f"{name}.qdq.onnx"
    quantized_by_onnx_runtime(path, quantized, inputs)
    engines = {
        ("ours", "float"): Ours(examples, path, samples),
        ("ours", "int8"): Ours(examples, path, samples, scheme),
        ("ONNX Runtime", "float"): onnx_runtime(path, inputs),
        ("ONNX Runtime", "int8"): onnx_runtime(quantized, inputs),
        ("OpenVINO", "float"): openvino_model(path, inputs, quantized=False),
        ("OpenVINO", "int8"): openvino_model(path, inputs, quantized=True),
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
