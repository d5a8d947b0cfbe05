"""Runs a model in another runtime: the other half of `holdfast verify`.

usage: RUNTIME MODEL FOLDER NAMES, where NAMES is JSON: {"inputs": [...], "outputs": [...]}

Says with one line of JSON which runtime it is. Then, for every line on standard input, runs the model over the rows of
input_0.npy, input_1.npy, ... in FOLDER, writes output_0.npy, ... there, and answers with one line of JSON.
"""
import json
import os
import sys

# A file of the user's that happens to have a package's name must not be run.
sys.path = [path for path in sys.path if path not in ("", os.getcwd())]
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**fields):
    channel.write(json.dumps(fields) + "\n")
    channel.flush()


def onnx_runtime(path, inputs, outputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda row: session.run(outputs, row)


def open_vino(path, inputs, outputs):
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(row):
        results = model(row)
        return [results[name] for name in outputs]

    return openvino.__version__, run


def main():
    runtime, path, folder, names = sys.argv[1:5]
    names = json.loads(names)
    import numpy

    load = {"onnxruntime": onnx_runtime, "openvino": open_vino}[runtime]
    version, run = load(path, names["inputs"], names["outputs"])
    answer(version=version)
    for _ in sys.stdin:
        arrays = [numpy.load(os.path.join(folder, f"input_{index}.npy")) for index in range(len(names["inputs"]))]
        rows = []
        for row in range(len(arrays[0])):
            feed = {name: array[row : row + 1] for name, array in zip(names["inputs"], arrays)}
            rows.append([numpy.array(output, numpy.float32) for output in run(feed)])
        for index in range(len(names["outputs"])):
            numpy.save(os.path.join(folder, f"output_{index}.npy"), numpy.stack([row[index] for row in rows]))
        answer(done=len(rows))


try:
    main()
except ModuleNotFoundError as error:
    answer(missing=error.name)
except Exception as error:
    answer(failed=f"{type(error).__name__}: {error}"[:4000])
