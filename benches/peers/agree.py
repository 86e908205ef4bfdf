"""Replays our decoding and augmentation with Pillow and torchvision: do they agree, byte for byte?

    agree.py FOLDER

FOLDER is written by `bench data`: agree.json names image files, and for each the pixels that we decoded
(WIDTH x HEIGHT x 3 bytes) and views with everything that was drawn for them (3 x SIZE x SIZE bytes). Views
are replayed on our pixels, so that a difference of decoders is counted once. Prints one line of JSON.
"""
import io
import json
import pathlib
import sys
import time

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


def replay(image, view):
    top, left, height, width = view["window"]
    image = F.resized_crop(image, top, left, height, width, [view["size"]] * 2, InterpolationMode.BICUBIC)
    if view["flip"]:
        image = F.hflip(image)
    for name, value in view["ops"]:
        if name == "brightness":
            image = F.adjust_brightness(image, value)
        elif name == "contrast":
            image = F.adjust_contrast(image, value)
        elif name == "saturation":
            image = F.adjust_saturation(image, value)
        elif name == "hue":
            image = F.adjust_hue(image, value)
        elif name == "grey":
            image = F.to_grayscale(image, 3)
        elif name == "blur":
            image = image.filter(ImageFilter.GaussianBlur(radius=value))
        elif name == "solarize":
            image = ImageOps.solarize(image)
        else:
            raise ValueError(name)
    return np.asarray(image)


class Count:
    def __init__(self):
        self.bytes, self.differ, self.most = 0, 0, 0

    def add(self, a, b):
        distance = np.abs(a.astype(int) - b.astype(int))
        self.bytes += distance.size
        self.differ += int((distance > 0).sum())
        self.most = max(self.most, int(distance.max()))

    def report(self):
        return {"bytes": self.bytes, "differ": self.differ, "most": self.most}


def main():
    folder = pathlib.Path(sys.argv[1])
    decoded, views, seconds = Count(), Count(), 0.0
    images = json.loads((folder / "agree.json").read_text())
    for entry in images:
        data = pathlib.Path(entry["file"]).read_bytes()
        start = time.perf_counter()
        theirs = Image.open(io.BytesIO(data)).convert("RGB")
        seconds += time.perf_counter() - start
        ours = np.fromfile(folder / entry["pixels"], np.uint8).reshape(entry["height"], entry["width"], 3)
        decoded.add(np.asarray(theirs), ours)
        image = Image.fromarray(ours)
        for view in entry["views"]:
            size = view["size"]
            got = np.fromfile(folder / view["file"], np.uint8).reshape(3, size, size).transpose(1, 2, 0)
            views.add(replay(image, view), got)
    print(json.dumps({
        "decoded": decoded.report(),
        "views": views.report(),
        "decode_ms": 1e3 * seconds / len(images),
    }))


if __name__ == "__main__":
    main()
