#!/usr/bin/env python3
"""Runs models in float, in int8 and with operations reverted, on x86-64 and on emulated AArch64; fails where bytes differ.

usage: bench_models.py X86_64_EXAMPLES AARCH64_EXAMPLES WORKDIR

The folders hold the examples `scheme` and `logits` of the tests crate. The fixture is always compared; the models of
the benchmark pack are when HOLDFAST_BENCH names its folder. Inputs are seeded random numbers of the model's shapes:
bits are compared, not quality. The reference is x86-64's own scalar code.
needs: numpy onnxruntime
"""
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import onnxruntime

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures/mnist/mnist_dwcnn.onnx"
# (emulated processor, instruction set); no processor is this machine's own.
MACHINES = [(None, "avx2"), (None, "avx512vnni"), ("cortex-a53", "neon"), ("max", "neon_dotprod")]
SAMPLES = 2
CALIBRATION = 4
# What a dimension without a number becomes behind the first one.
LENGTH = 16
# Tokens and segment numbers that every vocabulary has.
TOKENS = 2


def inputs(model, count, seed):
    """One array an input, `count` samples each."""
    random = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for entry in session.get_inputs():
        shape = [count] + [d if isinstance(d, int) else LENGTH for d in entry.shape[1:]]
        if "int" in entry.type:
            yield random.integers(0, TOKENS, shape)
        else:
            yield random.standard_normal(shape).astype(np.float32)


def save(arrays, prefix):
    paths = []
    for index, array in enumerate(arrays):
        paths.append(f"{prefix}{index}.npy")
        np.save(paths[-1], array)
    return ",".join(paths)


def call(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stderr}")


def main():
    native, emulated, work = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    work.mkdir(parents=True, exist_ok=True)
    models = [FIXTURE]
    bench = os.environ.get("HOLDFAST_BENCH")
    if bench:
        models += sorted(pathlib.Path(bench, "models").glob("*.onnx"))
    else:
        print("HOLDFAST_BENCH is not set: the benchmark pack is skipped")
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    here = {"avx2": "avx2" in flags, "avx512vnni": "avx512_vnni" in flags}
    passed = failed = 0
    for model in models:
        calibration = save(inputs(model, CALIBRATION, 1), f"{work}/calibration")
        samples = save(inputs(model, SAMPLES, 2), f"{work}/samples")
        call([native / "scheme", model, calibration, f"{work}/scheme.json"])
        groups = len(json.loads((work / "scheme.json").read_text())["groups"])
        some = ",".join(map(str, range(0, groups, 3)))
        variants = {
            "float": [],
            "int8": ["--scheme", f"{work}/scheme.json"],
            "mixed": ["--scheme", f"{work}/scheme.json", "--reverted", some],
        }
        for name, options in variants.items():
            def outputs(cpu, isa):
                program = ["qemu-aarch64-static", "-cpu", cpu, emulated / "logits"] if cpu else [native / "logits"]
                call([*program, model, samples, f"{work}/outputs.npy", "--isa", isa, *options])
                return (work / "outputs.npy").read_bytes()

            start = time.time()
            expected = outputs(None, "scalar")
            differing = [
                isa for cpu, isa in MACHINES if (cpu or here[isa]) and outputs(cpu, isa) != expected
            ]
            passed, failed = passed + (not differing), failed + bool(differing)
            verdict = f"DIFFERENT on {', '.join(differing)}" if differing else "the same bytes everywhere"
            print(f"{model.stem} {name}: {verdict} ({time.time() - start:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
