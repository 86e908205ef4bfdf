"""Crops of random images resized by the installed Pillow: the sizes as JSON, the pixels as bytes, one after the
other. Arguments: a folder to write to."""

import json
import sys

import numpy as np
import PIL
from PIL import Image

folder = sys.argv[1]
rng = np.random.default_rng(4)
cases = []
with open(f"{folder}/pixels", "wb") as pixels:
    for number in range(300):
        width, height = (int(v) for v in rng.integers(8, 160, 2))
        w, h = int(rng.integers(4, width + 1)), int(rng.integers(4, height + 1))
        left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        size = int(rng.integers(4, 100))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        view = Image.fromarray(image).crop((left, top, left + w, top + h)).resize((size, size), Image.BICUBIC)
        pixels.write(image.tobytes() + np.asarray(view).tobytes())
        cases.append([width, height, left, top, w, h, size])
json.dump({"version": PIL.__version__, "cases": cases}, open(f"{folder}/cases.json", "w"))
