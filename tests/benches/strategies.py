#!/usr/bin/env python3
"""Compares search strategies on models that lose accuracy in int8: real ones, and ones made hard on purpose.

usage: strategies.py HOLDFAST WORKDIR [--quick] [--json FILE]

HOLDFAST is the program. A hard model is made of a good one by rescaling: some output channels of a convolution are
multiplied by a power of two and the next convolution's weights for them divided by it. No bit of the float results
changes, but one scale for the tensor between them no longer fits its other channels. `planted(k, seed)` rescales k of
the places where that is possible, each by its own power, so that some matter much and some little. The digits' model and
its data lie in tests/fixtures; the benchmark pack's models are used when HOLDFAST_BENCH names its folder.

Every strategy starts with an empty memo store. `samples` counts what the algorithm asked for after the float and the
fully quantized model were measured, in thousands; `all` includes those. needs: numpy onnx pillow
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import onnx
from onnx import numpy_helper

from pack import BENCH, MNIST, named

STRATEGIES = {
    "compat": {"mode": "compat"},
    "greedy": {"strategy": "greedy"},
    "bisect": {"strategy": "bisect"},
}


def places(model):
    """Pairs of convolutions with nothing but ReLUs between them, where only the second reads the first."""
    nodes, constants = model.graph.node, {tensor.name for tensor in model.graph.initializer}
    maker = {output: node for node in nodes for output in node.output}
    readers = {}
    for node in nodes:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    for consumer in (node for node in nodes if node.op_type == "Conv"):
        relu = maker.get(consumer.input[0])
        producer = maker.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
        if producer is None or producer.op_type != "Conv" or len(producer.input) < 3:
            continue
        alone = len(readers[relu.input[0]]) == 1 and len(readers[consumer.input[0]]) == 1
        if alone and {producer.input[1], producer.input[2], consumer.input[1]} <= constants:
            yield producer, consumer


def planted(source, path, count, seed):
    """Writes the model with `count` places rescaled."""
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    random = np.random.default_rng(seed)
    pairs = list(places(model))
    for index in sorted(random.choice(len(pairs), min(count, len(pairs)), replace=False)):
        producer, consumer = pairs[index]
        names = [producer.input[1], producer.input[2], consumer.input[1]]
        weights, bias, following = (numpy_helper.to_array(constants[name]).copy() for name in names)
        channels = random.choice(len(weights), max(1, len(weights) // 10), replace=False)
        factor = np.float32(2.0 ** random.integers(4, 9))
        weights[channels] *= factor
        bias[channels] *= factor
        if following.shape[1] == 1 and following.shape[0] == len(weights):
            following[channels] /= factor
        else:
            following[:, channels] /= factor
        for name, values in zip(names, (weights, bias, following)):
            constants[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, path)


PER_TENSOR = ["--weights-granularity", "pertensor"]


def cases(work, quick):
    """(name, model, kind of data, largest drop, further flags)."""
    for count, seed in [(k, s) for k in ((1, 4) if quick else (1, 2, 3, 4, 6, 8, 10, 12)) for s in (1, 2)]:
        path = f"{work}/digits_{count}_{seed}.onnx"
        planted(f"{MNIST}/mnist_dwcnn.onnx", path, count, seed)
        yield f"digits, {count} planted, seed {seed}", path, "digits", 0.002, []
    yield "mnist_dwcnn, per tensor", f"{MNIST}/mnist_dwcnn.onnx", "digits", 0.001, PER_TENSOR
    if not BENCH:
        return
    models = f"{BENCH}/models"
    yield "mnist_dwcnn_b, per tensor", f"{models}/mnist_dwcnn_b.onnx", "digits", 0.001, PER_TENSOR
    yield "kws_ds_cnn", f"{models}/kws_ds_cnn.onnx", "keywords", 0.0, []
    yield "kws_ds_cnn, per tensor", f"{models}/kws_ds_cnn.onnx", "keywords", 0.0005, PER_TENSOR
    if quick:
        return
    yield "resnet20_hard", f"{models}/resnet20_cifar10_hard.onnx", "cifar", 0.001, []
    yield "resnet20_hard, per tensor", f"{models}/resnet20_cifar10_hard.onnx", "cifar", 0.001, PER_TENSOR
    for count, seed in ((2, 1), (4, 2), (7, 3)):
        path = f"{work}/resnet20_{count}_{seed}.onnx"
        planted(f"{models}/resnet20_cifar10.onnx", path, count, seed)
        yield f"resnet20, {count} planted, seed {seed}", path, "cifar", 0.002, []
    yield "resnet56", f"{models}/resnet56_cifar10.onnx", "cifar", 0.0005, PER_TENSOR
    yield "efficientnet_lite0, per tensor", f"{models}/efficientnet_lite0.onnx", "imagenet", 0.002, PER_TENSOR
    yield "minilm3", f"{models}/minilm3_banking77.onnx", sentences(), 0.001, []
    yield "fastestdet", f"{models}/fastestdet_coco.onnx", objects(), 0.002, []


def sentences():
    """Banking77 as a configuration."""
    def tokens(split):
        return {name: f"{BENCH}/data/banking77/{split}_{name}.npy" for name in ("input_ids", "attention_mask")}
    return {"model_type": "transformer", "datasets": {
        "optimization": {"name": "calibration", "data_source": tokens("calib")},
        "evaluation": {"name": "banking", "data_source": tokens("test"), "metrics": [{"type": "accuracy", "top_k": 1}],
                       "annotation": f"{BENCH}/data/banking77/test_labels.npy"}}}


def objects():
    """The COCO images with FastestDet's decoder as a configuration."""
    return {"datasets": [{
        "name": "coco", "data_source": f"{BENCH}/data/coco/val/images",
        "annotation_conversion": {"converter": "yolo_labeling"}, "reader": "opencv_imread",
        "preprocessing": [{"type": "resize", "size": 352, "use_pillow": True, "interpolation": "BILINEAR"},
                          {"type": "normalization", "mean": 0, "std": 255}],
        "adapter": {"type": "fastestdet", "conf_threshold": 0.01}, "postprocessing": [{"type": "nms", "overlap": 0.45}],
        "metrics": [{"name": "half", "type": "coco_precision", "threshold": 0.5}]}]}


def run(holdfast, work, case, strategy):
    name, model, kind, drop, further = case
    out = f"{work}/run"
    shutil.rmtree(out, ignore_errors=True)
    options = [part for key, value in STRATEGIES[strategy].items() for part in (f"--{key}", value)]
    if isinstance(kind, dict):
        params = {"preset": "mixed", "maximal_drop": drop, "stat_subset_size": 300}
        compression = {"algorithms": [{"name": "AccuracyAwareQuantization", "params": params}]}
        if "model_type" in kind:
            compression["model_type"] = kind["model_type"]
        config = {"model": {"model": model}, "engine": {"datasets": kind["datasets"]}, "compression": compression}
        with open(f"{work}/config.json", "w") as file:
            json.dump(config | {"holdfast": STRATEGIES[strategy]}, file)
        given = ["-c", f"{work}/config.json"]
    else:
        given = ["-m", model, *named(kind)[0], "--max-drop", str(drop), *further, *options]
    command = [holdfast, "--log-level", "warn", "quantize", *given,
               "--output-dir", f"{out}/results", "--state-dir", f"{out}/state", "--progress", "never"]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"{name}: {' '.join(command)} ended with {done.returncode}\n{done.stderr}")
    wall = time.time() - start
    run = json.load(open(f"{out}/results/report.json"))["run"]
    samples = run["counts"]["samples"]
    search = sum(count for stage, count in samples.items() if stage not in ("baseline", "quantized model", "calibration"))
    return {
        "case": name, "strategy": strategy, "met": done.returncode == 0, "wall": wall,
        "full": run["counts"]["full_evaluations"], "search": search, "all": sum(samples.values()),
        "groups": len(run["reverted_groups"]), "operations": len(run["reverted_operations"]),
        "of": run["operations"], "int8": run["stages"][-1]["drops"][0], "final": run["final_drops"][0], "limit": drop,
    }


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    report = arguments[arguments.index("--json") + 1] if "--json" in arguments else None
    plain = [a for i, a in enumerate(arguments) if not a.startswith("--") and (i == 0 or arguments[i - 1] != "--json")]
    holdfast, work = plain
    os.makedirs(work, exist_ok=True)
    print("| model | limit | int8 drop | strategy | full evaluations | samples, search (all), thousands | wall s | groups | "
          "operations | final drop |\n|" + " --- |" * 10, flush=True)
    rows = []
    for case in cases(work, quick):
        for strategy in STRATEGIES:
            row = run(holdfast, work, case, strategy)
            rows.append(row)
            print(f"| {row['case']} | {row['limit']} | {row['int8']:.4f} | {strategy} | {row['full']} | "
                  f"{row['search'] / 1e3:.1f} ({row['all'] / 1e3:.1f}) | {row['wall']:.1f} | {row['groups']} | "
                  f"{row['operations']} of {row['of']} | {row['final']:.4f}{'' if row['met'] else ' missed'} |", flush=True)
    if report:
        json.dump(rows, open(report, "w"), indent=1)
    by = {(row["case"], row["strategy"]): row for row in rows}
    searched = [name for name in dict.fromkeys(row["case"] for row in rows) if by[name, "greedy"]["search"] > 0]
    for key in ("search", "all"):
        ratios = [by[name, "bisect"][key] / by[name, "greedy"][key] for name in searched]
        print(f"bisect / greedy, samples ({key}): median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}, "
              f"{len(ratios)} models")
    worse = [name for name in searched if by[name, "bisect"]["operations"] > by[name, "greedy"]["operations"]]
    lost = [name for name in searched if by[name, "greedy"]["met"] and not by[name, "bisect"]["met"]]
    print("more operations reverted than greedy:", worse or "none")
    print("goal missed where greedy meets it:", lost or "none")
    sys.exit(1 if worse or lost else 0)


if __name__ == "__main__":
    main()
