#!/usr/bin/env python3
"""Prints the BLAKE3 digests of the pixels Pillow decodes from photographs, for the test that reads imagenet_pixels.txt.

usage: make_imagenet_pixels.py IMAGES_FOLDER > imagenet_pixels.txt     (needs numpy, pillow, blake3; written with Pillow 13.0)
"""
import pathlib
import sys

import blake3
import numpy as np
from PIL import Image

print("# file, BLAKE3 of its RGB pixels as decoded by Pillow; written by make_imagenet_pixels.py")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jpg"))[::10]:
    print(path.name, blake3.blake3(np.asarray(Image.open(path).convert("RGB")).tobytes()).hexdigest())
