#!/usr/bin/env python3
"""Whole accuracy-aware runs beside NNCF's `quantize_with_accuracy_control`: same model, data, goal and cores.

usage: nncf_peer.py HOLDFAST WORKDIR [--models NAME,...] [--rounds N]

Both sides run as processes of their own on the same CPUs, in turn. Ours is the command a user types, from images and
labels on disk to the written model and report, with an empty memo store. NNCF gets its inputs decoded and normalised
(not counted); its time is that of the call alone (`call`), without the float and final checks this script adds. Its
ranking uses the metric on 300 samples, as ours; its validation function runs 32 samples an inference, the kindest choice.
The models come from the benchmark pack that HOLDFAST_BENCH names. needs: numpy onnx pillow openvino nncf
"""
import json
import os
import resource
import shutil
import subprocess
import sys
import time

import numpy as np

from pack import BENCH, MNIST, named
from strategies import planted

BATCH = 32
MODELS = {
    "resnet20_hard": ("resnet20_cifar10_hard.onnx", None, "cifar", 0.001),
    "resnet20_planted": ("resnet20_cifar10.onnx", (4, 2), "cifar", 0.002),
    "digits_planted": (f"{MNIST}/mnist_dwcnn.onnx", (4, 1), "digits", 0.002),
    "kws": ("kws_ds_cnn.onnx", None, "keywords", 0.0),
}


def model_file(name, work):
    source, plant, _, _ = MODELS[name]
    path = source if os.path.isabs(source) else f"{BENCH}/models/{source}"
    if plant is None:
        return path
    planted(path, f"{work}/{name}.onnx", *plant)
    return f"{work}/{name}.onnx"


def calibration(kind, inputs):
    """Calibration inputs: the set's own where it has one, else the first 300 validation samples."""
    if kind == "digits":
        images = np.load(f"{MNIST}/calib_images.npy").astype(np.float32) / np.float32(255)
        return ((images - np.float32(0.1307)) / np.float32(0.3081))[:, None]
    if kind == "cifar":
        from pack import CIFAR_MEAN, CIFAR_STD, pictures
        folder = f"{BENCH}/data/cifar10/calib"
        files = [f"{folder}/{k}/{f}" for k in sorted(os.listdir(folder)) for f in sorted(os.listdir(f"{folder}/{k}"))]
        return pictures(files[:300], 255, CIFAR_MEAN, CIFAR_STD)
    return inputs[:300]


def nncf_run(model, kind, drop):
    """Runs in a process of its own; prints one JSON object."""
    import nncf
    import nncf.quantization.algorithms.accuracy_control.algorithm as control
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters

    inputs, labels = named(kind)[1]()
    inputs = np.ascontiguousarray(inputs, np.float32)
    items = list(zip(inputs, labels))
    counts = {"full": 0, "samples": 0}

    def validate(compiled, data):
        request, output, hits, batch = compiled.create_infer_request(), compiled.output(0), [], []

        def flush():
            scores = request.infer([np.stack([x for x, _ in batch])])[output].reshape(len(batch), -1)
            hits.extend(float(score.argmax() == label) for score, (_, label) in zip(scores, batch))
            batch.clear()

        for item in data:
            batch.append(item)
            if len(batch) == BATCH:
                flush()
        if batch:
            flush()
        counts["full"] += len(hits) == len(items)
        counts["samples"] += len(hits)
        return float(np.mean(hits)), hits

    reverted = {}
    printed = control.QuantizationAccuracyRestorer._print_report

    def report(found, most):
        reverted["operations"] = len(found.reverted_operations)
        printed(found, most)

    control.QuantizationAccuracyRestorer._print_report = staticmethod(report)
    network = openvino.Core().read_model(model)
    calib = list(calibration(kind, inputs))
    start, before = time.perf_counter(), time.process_time()
    result = nncf.quantize_with_accuracy_control(
        network, nncf.Dataset(calib, lambda x: x[None]), nncf.Dataset(items, lambda item: item[0][None]), validate,
        max_drop=drop, drop_type=nncf.DropType.ABSOLUTE, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=300,
        advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(ranking_subset_size=300))
    wall, cpu = time.perf_counter() - start, time.process_time() - before
    asked = dict(counts)
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    score = lambda what: validate(openvino.compile_model(what, "CPU", precise), items)[0]
    print(json.dumps({"call": wall, "cpu": cpu, **asked, "operations": reverted.get("operations", 0),
                      "drop": score(openvino.Core().read_model(model)) - score(result)}))


def child(command):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr}")
    return done, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(holdfast, work, model, kind, drop, mode):
    shutil.rmtree(f"{work}/run", ignore_errors=True)
    _, wall, cpu = child([holdfast, "--log-level", "warn", "quantize", "-m", model, *named(kind)[0], "--max-drop", str(drop),
                          "--mode", mode, "--output-dir", f"{work}/run/results", "--state-dir", f"{work}/run/state",
                          "--progress", "never"])
    run = json.load(open(f"{work}/run/results/report.json"))["run"]
    return {"call": wall, "cpu": cpu, "full": run["counts"]["full_evaluations"],
            "samples": sum(run["counts"]["samples"].values()), "operations": len(run["reverted_operations"]),
            "drop": run["final_drops"][0]}


def main():
    if sys.argv[1] == "--nncf":
        return nncf_run(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    option = lambda name, default: sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default
    holdfast, work = sys.argv[1:3]
    os.makedirs(work, exist_ok=True)
    print("| model | limit | who | wall s | CPU s | full evaluations | samples, thousands | operations reverted | final drop |")
    print("|" + " --- |" * 9, flush=True)
    for name in option("--models", "resnet20_hard,resnet20_planted,kws").split(","):
        _, _, kind, drop = MODELS[name]
        model = model_file(name, work)
        rounds = []
        for _ in range(int(option("--rounds", "3"))):
            peer, _, _ = child([sys.executable, __file__, "--nncf", model, kind, str(drop)])
            rounds.append({"NNCF": json.loads(peer.stdout.strip().splitlines()[-1]),
                           "default": ours(holdfast, work, model, kind, drop, "default"),
                           "compat": ours(holdfast, work, model, kind, drop, "compat")})
        middle = lambda values: sorted(values)[len(values) // 2]
        for who in ("NNCF", "default", "compat"):
            row = rounds[0][who]
            wall, cpu = (middle([turn[who][key] for turn in rounds]) for key in ("call", "cpu"))
            print(f"| {name} | {drop} | {who} | {wall:.1f} | {cpu:.1f} | {row['full']} | {row['samples'] / 1e3:.1f} | "
                  f"{row['operations']} | {row['drop']:.4f} |", flush=True)
        for who in ("default", "compat"):
            ratios = [[turn["NNCF"][key] / turn[who][key] for turn in rounds] for key in ("call", "cpu")]
            print(f"  NNCF / {who}: wall {middle(ratios[0]):.2f}, CPU {middle(ratios[1]):.2f}", flush=True)


main()
