#!/usr/bin/env python3
"""DAVIS label propagation in eager PyTorch, doing the work that DINO's published evaluation does: the affinity of
whole frames, masked afterwards by a matrix of neighbours; features normalised again for each frame; masks written
as PNG by Pillow. Prints one line of JSON.

    davis.py --weights vits14.safetensors --data-path DAVIS --sequence dog --frames 12 --threads 2

Weights: a ViT under DINO's and timm's names, with class token and final norm.
"""
import argparse
import json
import os
import queue
import resource
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # before torch starts its threads
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data-path", required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    ARGS = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

LAST, RADIUS, TOPK, TEMPERATURE = 7, 12, 5, 0.1


class Vit:
    def __init__(self, path, heads):
        self.w, self.heads = load_file(path), heads
        self.patch = self.w["patch_embed.proj.weight"].shape[-1]
        self.depth = 1 + max(int(k.split(".")[1]) for k in self.w if k.startswith("blocks."))

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def positions(self, rows, cols):
        table = self.w["pos_embed"]
        side = int((table.shape[1] - 1) ** 0.5)
        grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / side, (cols + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def attention(self, x, name):
        b, n, d = x.shape
        q, k, v = self.linear(x, name + ".qkv").reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(-1)
        return self.linear((weights @ v).transpose(1, 2).reshape(b, n, d), name + ".proj")

    def tokens(self, x):
        rows, cols = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        t = F.conv2d(x, self.w["patch_embed.proj.weight"], self.w["patch_embed.proj.bias"], stride=self.patch)
        t = torch.cat([self.w["cls_token"], t.flatten(2).transpose(1, 2)], 1) + self.positions(rows, cols)
        for i in range(self.depth):
            name = f"blocks.{i}"
            t = t + self.attention(self.norm(t, name + ".norm1"), name + ".attn")
            hidden = F.gelu(self.linear(self.norm(t, name + ".norm2"), name + ".mlp.fc1"))
            t = t + self.linear(hidden, name + ".mlp.fc2")
        return self.norm(t, "norm")[0, 1:], rows, cols


def read_frame(path):
    image = cv2.imread(str(path))
    height, width = image.shape[:2]
    if height > width:
        size = (480, int(480 * height / width // 64 * 64))
    else:
        size = (int(480 * width / height // 64 * 64), 480)
    image = cv2.resize(image, size)[:, :, ::-1].astype(np.float32).transpose(2, 0, 1) / 255.0
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.228, 0.224, 0.225])
    return torch.from_numpy((image - mean[:, None, None]) / std[:, None, None])[None], (height, width)


def read_mask(path, rows, cols):
    small = np.array(Image.open(path).resize((cols, rows), Image.NEAREST))
    return torch.stack([torch.from_numpy(small == c).float() for c in range(int(small.max()) + 1)])[None]


def neighbours(rows, cols):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    y, x = y.flatten(), x.flatten()
    near = ((y[:, None] - y[None]).abs() <= RADIUS) & ((x[:, None] - x[None]).abs() <= RADIUS)
    return near.float()


def propagate(target, sources, masks, near):
    """target [N, D]; sources, lists of [N, D] and [1, C, h, w] -> [1, C, h, w]"""
    _, channels, rows, cols = masks[0].shape
    context = torch.stack(sources)
    target = F.normalize(target, dim=1, p=2).t()
    context = F.normalize(context, dim=2, p=2)
    affinity = torch.exp(torch.bmm(context, target[None].repeat(len(sources), 1, 1)) / TEMPERATURE)
    affinity = affinity * near[None]
    affinity = affinity.flatten(0, 1)
    kth = affinity.topk(TOPK, dim=0).values[-1]
    affinity[affinity < kth] = 0
    affinity = affinity / affinity.sum(0, keepdim=True)
    labels = torch.cat(masks).permute(0, 2, 3, 1).reshape(-1, channels).t()
    return (labels @ affinity).reshape(1, channels, rows, cols)


def stretched(mask):
    for channel in mask[0]:
        if channel.max() > 0:
            channel -= channel.min()
            channel /= channel.max()
    return mask


@torch.no_grad()
def main(a):
    torch.set_num_threads(a.threads)
    vit, root = Vit(a.weights, a.heads), Path(a.data_path)
    frames = sorted((root / "JPEGImages" / "480p" / a.sequence).glob("*.jpg"))[: a.frames]
    annotation = root / "Annotations" / "480p" / a.sequence / (frames[0].stem + ".png")
    palette = Image.open(annotation).getpalette()
    forward, vote, start = [], [], time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        first, rows, cols = vit.tokens(read_frame(frames[0])[0])
        first_mask, near = read_mask(annotation, rows, cols), neighbours(rows, cols)
        past = queue.Queue(LAST)
        begun = time.perf_counter()
        for path in frames[1:]:
            pixels, (height, width) = read_frame(path)
            lap = time.perf_counter()
            tokens, rows, cols = vit.tokens(pixels)
            forward.append(time.perf_counter() - lap)
            lap = time.perf_counter()
            sources = [first] + [f for f, _ in list(past.queue)]
            soft = propagate(tokens, sources, [first_mask] + [m for _, m in list(past.queue)], near)
            vote.append(time.perf_counter() - lap)
            if past.full():
                past.get()
            past.put((tokens, soft))
            wide = stretched(F.interpolate(soft, scale_factor=vit.patch, mode="bilinear", align_corners=False))
            ids = wide[0].argmax(0).numpy().astype(np.uint8)
            ids = np.array(Image.fromarray(ids).resize((width, height), Image.NEAREST))
            image = Image.fromarray(ids)
            image.putpalette(palette)
            image.save(os.path.join(out, path.stem + ".png"))
        end = time.perf_counter()
    print(json.dumps({
        # Of the frames whose context is full, as most of a video's are.
        "seconds_per_frame": (end - begun) / (len(frames) - 1),
        "forward": float(np.median(forward[LAST:] or forward)),
        "propagation": float(np.median(vote[LAST:] or vote)),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main(ARGS)
