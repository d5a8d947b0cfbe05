#!/usr/bin/env python3
"""Writes the image fixtures beside this file: small files of every kind and the pixels Pillow and OpenCV make of them.

usage: make_fixtures.py        (needs numpy, pillow, opencv-python-headless; written with Pillow 13.0, OpenCV 5.0)

images/NAME.EXT is decoded to images/NAME.EXT.rgb: little-endian u32 width and height, then RGB bytes.
resized/FILTER_HEIGHTxWIDTH.rgb is images/noise.png resized.
"""
import io
import pathlib
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
RNG = np.random.default_rng(20260101)


def write_rgb(path, pixels):
    height, width, _ = pixels.shape
    path.write_bytes(struct.pack("<II", width, height) + np.ascontiguousarray(pixels, np.uint8).tobytes())


def save(name, image, **options):
    path = HERE / "images" / name
    image.save(path, **options)
    write_rgb(path.with_name(name + ".rgb"), np.asarray(Image.open(path).convert("RGB")))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def save_raw_png(name, samples, color, depth):
    """Pillow cannot write these forms of PNG, but reads them. Samples: height x width x channels, u16 or packed u8 rows."""
    height = samples.shape[0]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    body = samples.astype(">u2").tobytes() if depth == 16 else samples.tobytes()
    row = len(body) // height
    width = row * 8 // depth // channels
    lines = b"".join(b"\0" + body[at:at + row] for at in range(0, len(body), row))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path = HERE / "images" / name
    path.write_bytes(png)
    write_rgb(path.with_name(name + ".rgb"), np.asarray(Image.open(io.BytesIO(png)).convert("RGB")))


def smooth(height, width):
    """A gradient with edges and noise: JPEG neither destroys nor trivialises it."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 9 % 256, y * 11 % 256, (x + y) * 5 % 256], -1)
    return np.clip(base + RNG.integers(-12, 13, base.shape), 0, 255).astype(np.uint8)


photo = Image.fromarray(smooth(33, 45))
noise = Image.fromarray(RNG.integers(0, 256, (13, 17, 3), np.uint8))
alpha = Image.fromarray(RNG.integers(0, 256, (5, 7, 4), np.uint8))
save("420.jpg", photo, quality=88, subsampling=2)
save("422_progressive.jpg", photo, quality=75, subsampling=1, progressive=True)
save("444.jpg", photo, quality=95, subsampling=0)
save("restart.jpg", photo, quality=80, restart_marker_blocks=2)
save("gray.jpg", photo.convert("L"), quality=90)
save("cmyk.jpg", Image.fromarray(RNG.integers(0, 256, (9, 11, 4), np.uint8), "CMYK"), quality=90)
exif = Image.Exif()
exif[0x0112] = 6  # orientation: rotated; Pillow leaves the pixels as they are stored
save("orientation.jpg", photo, quality=88, exif=exif)

save("noise.png", noise)
save("gray.png", noise.convert("L"))
save("gray_alpha.png", alpha.convert("LA"))
save("rgba.png", alpha)
save("one_bit.png", noise.convert("1"))
for colors in (2, 4, 16, 256):
    save(f"palette_{colors}.png", noise.quantize(colors))
save("palette_transparent.png", noise.quantize(16), transparency=3)
wide = RNG.integers(0, 65536, (4, 5, 4), np.uint16)
wide[0, :, 0] = [0, 255, 256, 65535, 128]
for name, color, channels in (("gray", 0, 1), ("rgb", 2, 3), ("gray_alpha", 4, 2), ("rgba", 6, 4)):
    save_raw_png(f"16bit_{name}.png", wide[..., :channels], color, 16)
save_raw_png("2bit_gray.png", RNG.integers(0, 256, (4, 3), np.uint8), 0, 2)
save_raw_png("4bit_gray.png", RNG.integers(0, 256, (4, 3), np.uint8), 0, 4)

save("rgb.bmp", noise)
save("gray.bmp", noise.convert("L"))
save("one_bit.bmp", noise.convert("1"))
save("palette.bmp", noise.quantize(16))
save("rgba.bmp", alpha)

pixels = np.asarray(noise)
sizes = [(13, 8), (6, 17), (7, 5), (29, 40), (3, 50), (1, 1), (26, 34), (4, 13)]
for height, width in sizes:
    for name, kind in (("pillow_bilinear", Image.BILINEAR), ("pillow_bicubic", Image.BICUBIC)):
        write_rgb(HERE / "resized" / f"{name}_{height}x{width}.rgb", np.asarray(noise.resize((width, height), kind)))
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    write_rgb(HERE / "resized" / f"opencv_linear_{height}x{width}.rgb", resized)
