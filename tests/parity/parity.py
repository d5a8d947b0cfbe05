#!/usr/bin/env python3
"""Quantizes models and runs the exported files in ONNX Runtime (default options) and OpenVINO.

usage: parity.py HOLDFAST LOGITS WORKDIR [--all]

HOLDFAST is the program, LOGITS the example `logits` of the tests crate (what our own engine computes). The fixture in
tests/fixtures/mnist is always measured; the models of the benchmark pack are when HOLDFAST_BENCH names its folder
(`--all` adds the ones that take minutes). Fails when a metric differs by more than 0.1 points or one sample, whichever
is larger, when fewer than 99.5 % of the predictions agree, or when OpenVINO does not load a file.

Where operations were reverted to float, engines differ in the last bit of a float sum, and rounding to codes behind it
amplifies that. How far any two engines can agree there is measured, not assumed: ONNX Runtime runs the same file without
its optimizer, and with every input moved to a neighbouring float32. Ours has to be as near to it as it is to itself: in the
mean difference of the outputs, and in predictions, give or take two standard deviations of so few disagreements.
needs: numpy onnxruntime openvino pillow
"""
import json
import os
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import openvino

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "benches"))
from pack import BENCH, MNIST, cifar, imagenet, keywords, mnist  # noqa: E402

PER_TENSOR = ["--weights-granularity", "pertensor"]
MIXED = ["--preset", "mixed"]


def cases(everything):
    """(model file, data, largest drop, further flags)."""
    fixture = mnist(MNIST)
    yield f"{MNIST}/mnist_dwcnn.onnx", fixture, 0.01, []
    yield f"{MNIST}/mnist_dwcnn.onnx", fixture, 0.01, PER_TENSOR
    yield f"{MNIST}/mnist_dwcnn.onnx", fixture, 0.01, MIXED
    if not BENCH:
        print("HOLDFAST_BENCH is not set: the benchmark pack is skipped", flush=True)
        return
    models, data = f"{BENCH}/models", f"{BENCH}/data"
    yield f"{models}/mnist_dwcnn_b.onnx", fixture, 0.001, PER_TENSOR
    yield f"{models}/mnist_mbv2.onnx", fixture, 0.01, []
    yield f"{models}/kws_ds_cnn.onnx", keywords(f"{data}/kws"), 0.0005, []
    yield f"{models}/kws_ds_cnn.onnx", keywords(f"{data}/kws"), 0.0005, PER_TENSOR + MIXED
    yield f"{models}/resnet20_cifar10_hard.onnx", cifar(f"{data}/cifar10"), 0.001, []
    if not everything:
        return
    yield f"{models}/resnet20_cifar10_hard.onnx", cifar(f"{data}/cifar10"), 0.001, PER_TENSOR
    yield f"{models}/resnet20_cifar10_hard.onnx", cifar(f"{data}/cifar10"), 0.001, MIXED
    yield f"{models}/resnet56_cifar10.onnx", cifar(f"{data}/cifar10"), 0.0, []
    yield f"{models}/resnet56_cifar10.onnx", cifar(f"{data}/cifar10"), 0.0, MIXED
    for flags in ([], PER_TENSOR, MIXED):
        yield f"{models}/efficientnet_lite0.onnx", imagenet(f"{data}/imagenet1k"), 0.0005, flags


def batches(count, size):
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def onnx_runtime(path, inputs, optimized=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: inputs[a:b]})[0] for a, b in batches(len(inputs), 50)]
    return np.concatenate(rows).reshape(len(inputs), -1)


def neighbours(inputs, seed):
    """Every input one float32 up or down."""
    up = np.random.default_rng(seed).random(inputs.shape) < 0.5
    return np.nextafter(inputs, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def open_vino(path, inputs):
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = [model([inputs[a:b]])[0].copy() for a, b in batches(len(inputs), 50)]
    return np.concatenate(rows).reshape(len(inputs), -1)


def measure(holdfast, logits, work, model, data, drop, flags):
    name = os.path.splitext(os.path.basename(model))[0]
    out = os.path.join(work, "_".join([name, str(drop), *(flag.strip("-") for flag in flags)]))
    load_flags, load = data
    start = time.time()
    command = [holdfast, "--log-level", "warn", "quantize", "-m", model, *load_flags, "--max-drop", str(drop),
               "--output-dir", out, "--state-dir", os.path.join(work, "state_" + name), "--progress", "never", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"{name}: {' '.join(command)} ended with {done.returncode}\n{done.stderr}")
    wall = time.time() - start
    run = json.load(open(f"{out}/report.json"))["run"]
    file = json.load(open(f"{out}/scheme.json"))
    json.dump(file["scheme"], open(f"{out}/scheme_only.json", "w"))
    inputs, labels = load()
    inputs = np.ascontiguousarray(inputs, np.float32)
    np.save(f"{out}/inputs.npy", inputs)
    subprocess.run([logits, model, f"{out}/inputs.npy", f"{out}/ours.npy", "--scheme", f"{out}/scheme_only.json",
                    "--reverted", ",".join(map(str, file["reverted"]))], check=True, capture_output=True)
    os.remove(f"{out}/inputs.npy")
    ours = np.load(f"{out}/ours.npy").reshape(len(inputs), -1)
    exported = f"{out}/{name}.onnx"
    ort, vino = onnx_runtime(exported, inputs), open_vino(exported, inputs)
    accuracy = lambda outputs: float((outputs.argmax(1) == labels).mean())
    same = float((ours.argmax(1) == ort.argmax(1)).mean())
    same_vino = float((ours.argmax(1) == vino.argmax(1)).mean())
    equal = float((ours == ort).all(1).mean())
    int8 = [stage["values"][0] for stage in run["stages"] if stage["stage"] == "quantized model"][-1]
    print(f"| {name} | {drop} | {' '.join(flags) or '–'} | {run['baseline'][0]:.4f} | {int8:.4f} | "
          f"{run['final_values'][0]:.4f} | {len(run['reverted_operations'])} of {run['operations']} | "
          f"{run['counts']['full_evaluations']} + {run['counts']['ranking_evaluations']} | {wall:.1f} | "
          f"{accuracy(ort):.4f} | {100 * same:.2f} | {100 * equal:.2f} | {accuracy(vino):.4f} | {100 * same_vino:.2f} |",
          flush=True)
    allowed, least = max(0.001, 1 / len(inputs)) + 1e-12, 0.995
    problems = []
    if run["reverted_operations"] and (same < least or abs(accuracy(ort) - accuracy(ours)) > allowed):
        again = [onnx_runtime(exported, inputs, optimized=False)]
        again += [onnx_runtime(exported, neighbours(inputs, seed)) for seed in range(4)]
        agreed = [float((other.argmax(1) == ort.argmax(1)).mean()) for other in again]
        apart = [float(np.abs(other - ort).mean()) for other in again]
        distance = float(np.abs(ours - ort).mean())
        worst = 1.0 - min(agreed)
        noise = 2.0 * float(np.sqrt(worst * (1.0 - worst) / len(inputs)))
        least, allowed = min(least, 1.0 - worst - noise), max(allowed, *(abs(accuracy(other) - accuracy(ort)) for other in again))
        print(f"  ONNX Runtime agrees with itself in {100 * min(agreed):.2f} to {100 * max(agreed):.2f} % of the predictions "
              f"(optimizer off, inputs one float apart), its outputs differ by {min(apart):.5f} to {max(apart):.5f} on "
              f"average, ours from its by {distance:.5f}", flush=True)
        if distance > 1.1 * max(apart):
            problems.append(f"outputs differ by {distance} on average, ONNX Runtime's from its own by {max(apart)} at most")
    if abs(accuracy(ours) - run["final_values"][0]) > 1e-12:
        problems.append(f"the report says {run['final_values'][0]}, our engine gives {accuracy(ours)}")
    if abs(accuracy(ort) - accuracy(ours)) > allowed:
        problems.append(f"ONNX Runtime gives {accuracy(ort)}, we give {accuracy(ours)}")
    if same < least:
        problems.append(f"only {100 * same:.2f} % of the predictions equal ONNX Runtime's")
    return [f"{name} {drop} {' '.join(flags)}: {problem}" for problem in problems]


def main():
    everything = "--all" in sys.argv
    holdfast, logits, work = [argument for argument in sys.argv[1:] if argument != "--all"]
    os.makedirs(work, exist_ok=True)
    print("| model | goal | flags | float | int8 | final | operations reverted | evaluations (full + ranking) | wall s |"
          " ONNX Runtime | same predictions % | bit-equal outputs % | OpenVINO | same predictions % |")
    print("|" + " --- |" * 14, flush=True)
    problems, count = [], 0
    for case in cases(everything):
        problems += measure(holdfast, logits, work, *case)
        count += 1
    for problem in problems:
        print("FAILED", problem)
    print(f"parity: {count - len(problems)} passed, {len(problems)} failed")
    sys.exit(1 if problems else 0)


main()
