#!/usr/bin/env python3
"""What tuning and the mixed preset give back before any operation is reverted.

usage: preparations.py HOLDFAST WORKDIR

For models that lose accuracy in int8: the drop of DefaultQuantization, with `convert_to_mixed_preset`, and with
`tune_hyperparams`; nothing is reverted (`max_iter_num` 0). Needs HOLDFAST_BENCH and: numpy pillow
"""
import json
import os
import shutil
import subprocess
import sys

from pack import BENCH, MNIST

PER_TENSOR = {"weights": {"granularity": "pertensor"}}


def dataset(name, data, labels, calibration, preprocessing):
    data_source = {"data_source": data}
    annotation = {"annotation": labels} if labels else {}
    return {"datasets": {"optimization": {"name": "calibration", "data_source": calibration},
                         "evaluation": {"name": name, **data_source, **annotation,
                                        "metrics": [{"type": "accuracy", "top_k": 1}]},
                         "preprocessing": preprocessing}}


def cases():
    data = f"{BENCH}/data"
    normalized = [{"type": "normalization", "scale": 255, "mean": 0.1307, "std": 0.3081}]
    digits = dataset("digits", f"{MNIST}/test_images.npy", f"{MNIST}/test_labels.npy", f"{MNIST}/calib_images.npy", normalized)
    words = dataset("words", f"{data}/kws/mfcc.npy", f"{data}/kws/labels.npy", f"{data}/kws/mfcc.npy", [])
    colours = [{"type": "bgr_to_rgb"}, {"type": "normalization", "scale": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}]
    pictures = dataset("pictures", f"{data}/cifar10/test", None, f"{data}/cifar10/calib", colours)
    yield "mnist_dwcnn, per tensor", f"{MNIST}/mnist_dwcnn.onnx", digits, PER_TENSOR
    yield "mnist_dwcnn_b, per tensor", f"{BENCH}/models/mnist_dwcnn_b.onnx", digits, PER_TENSOR
    yield "kws_ds_cnn", f"{BENCH}/models/kws_ds_cnn.onnx", words, {}
    yield "resnet20_hard", f"{BENCH}/models/resnet20_cifar10_hard.onnx", pictures, {}
    yield "resnet20_hard, per tensor", f"{BENCH}/models/resnet20_cifar10_hard.onnx", pictures, PER_TENSOR


def drop(holdfast, work, model, engine, params):
    params = {"maximal_drop": -1, "stat_subset_size": 300, "max_iter_num": 0, **params}
    config = {"model": {"model": model}, "engine": engine,
              "compression": {"algorithms": [{"name": "AccuracyAwareQuantization", "params": params}]}}
    with open(f"{work}/config.json", "w") as file:
        json.dump(config, file)
    shutil.rmtree(f"{work}/run", ignore_errors=True)
    done = subprocess.run([holdfast, "--log-level", "warn", "quantize", "-c", f"{work}/config.json", "--output-dir",
                           f"{work}/run/results", "--state-dir", f"{work}/state", "--progress", "never"],
                          capture_output=True, text=True)
    if done.returncode != 3:
        sys.exit(f"{model} {params}: ended with {done.returncode}, not with a missed goal\n{done.stdout}{done.stderr}")
    return json.load(open(f"{work}/run/results/report.json"))["run"]["final_drops"][0]


def main():
    holdfast, work = sys.argv[1:]
    os.makedirs(work, exist_ok=True)
    print("| model | DefaultQuantization | mixed preset | tuned |\n| --- | --: | --: | --: |", flush=True)
    for name, model, engine, params in cases():
        prepared = [{}, {"convert_to_mixed_preset": True}, {"tune_hyperparams": True}]
        drops = [drop(holdfast, work, model, engine, params | further) for further in prepared]
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in drops) + " |", flush=True)


if __name__ == "__main__":
    main()
