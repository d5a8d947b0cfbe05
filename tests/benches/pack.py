"""The data of the fixture and the benchmark pack: command-line flags that name it, and the arrays a runtime is fed with.

needs: numpy pillow
"""
import glob
import os

import numpy as np
from PIL import Image

MNIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "mnist")
BENCH = os.environ.get("HOLDFAST_BENCH")
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalized(pixels, scale, mean, std):
    """The model input from stored values: x / scale, minus mean, over std, each in float32."""
    pixels = pixels.astype(np.float32) / np.float32(scale)
    return (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def pictures(paths, scale, mean, std, crop=None):
    rows = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        if crop:
            left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
            picture = picture.crop((left, top, left + crop, top + crop))
        rows.append(np.asarray(picture))
    return np.ascontiguousarray(normalized(np.stack(rows), scale, mean, std).transpose(0, 3, 1, 2))


def digits(folder):
    images = np.load(f"{folder}/test_images.npy")
    return normalized(images, 255, 0.1307, 0.3081)[:, None], np.load(f"{folder}/test_labels.npy")


def mnist(folder):
    flags = ["--data", f"{folder}/test_images.npy", "--labels", f"{folder}/test_labels.npy",
             "--calibration-data", f"{folder}/calib_images.npy", "--scale", "255", "--mean", "0.1307", "--std", "0.3081"]
    return flags, lambda: digits(folder)


def cifar(folder):
    def load():
        classes = sorted(os.listdir(f"{folder}/test"))
        files = [(p, k) for k, c in enumerate(classes) for p in sorted(glob.glob(f"{folder}/test/{c}/*.png"))]
        images = pictures([p for p, _ in files], 255, CIFAR_MEAN, CIFAR_STD)
        return images, np.array([k for _, k in files])
    flags = ["--data", f"{folder}/test", "--calibration-data", f"{folder}/calib", "--scale", "255",
             "--mean", ",".join(map(str, CIFAR_MEAN)), "--std", ",".join(map(str, CIFAR_STD))]
    return flags, load


def imagenet(folder):
    def load():
        rows = [line.split() for line in open(f"{folder}/labels.txt")]
        images = pictures([f"{folder}/images/{name}" for name, _ in rows], 1, 127, 128, 224)
        return images, np.array([int(label) for _, label in rows])
    return ["--data", f"{folder}/images", "--labels", f"{folder}/labels.txt", "--crop", "224",
            "--mean", "127", "--std", "128"], load


def keywords(folder):
    return (["--data", f"{folder}/mfcc.npy", "--labels", f"{folder}/labels.npy"],
            lambda: (np.load(f"{folder}/mfcc.npy"), np.load(f"{folder}/labels.npy")))


def named(kind):
    """Flags and loader by the name of the data: digits, cifar, imagenet, keywords."""
    data = f"{BENCH}/data"
    return {
        "digits": lambda: mnist(MNIST),
        "cifar": lambda: cifar(f"{data}/cifar10"),
        "imagenet": lambda: imagenet(f"{data}/imagenet1k"),
        "keywords": lambda: keywords(f"{data}/kws"),
    }[kind]()
