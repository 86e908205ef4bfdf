#!/usr/bin/env python3
"""One SelfPatch training step in eager PyTorch, doing the work that the published program does: both
crop sizes through the network one after the other, a patch's positives gathered first and then
projected, one log-softmax per pair of views. Prints one line of JSON.

    step.py --arch vit_tiny --batch 4 --threads 2            the whole step
    step.py --part targets --batch 4 --threads 2             the teacher's matching + aggregation alone

Sizes: 2 crops of 224 and `--local` of 96 pixels; the weights are random.
"""
import argparse
import functools
import json
import os
import resource
import time

if __name__ == "__main__":  # before torch starts its threads
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="vit_tiny", choices=["vit_tiny", "vit_small", "vit_base"])
    parser.add_argument("--part", default="step", choices=["step", "targets"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--local", type=int, default=8)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--out-dim", type=int, default=65536)
    parser.add_argument("--out-dim-selfpatch", type=int, default=4096)
    parser.add_argument("--k-num", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    ARGS = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}
DEPTH, DROP_PATH, CLIP = 12, 0.1, 3.0


def drop_path(x, rate, training):
    if rate == 0.0 or not training:
        return x
    keep = 1.0 - rate
    alive = torch.rand(x.shape[0], 1, 1).add_(keep).floor_()
    return x.div(keep) * alive


def mlp(dim, hidden):
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, rate):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp, self.heads, self.rate = mlp(dim, 4 * dim), heads, rate

    def attention(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))

    def forward(self, x):
        x = x + drop_path(self.attention(self.norm1(x)), self.rate, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.rate, self.training)


class ClassBlock(nn.Module):
    """One query token reads itself and a context."""

    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp, self.heads = mlp(dim, 4 * dim), heads

    def forward(self, query, context):
        u = self.norm1(torch.cat([query, context], dim=1))
        b, n, d = u.shape
        split = lambda t: t.reshape(b, -1, self.heads, d // self.heads).transpose(1, 2)
        q, k, v = split(self.q(u[:, :1])) * (d // self.heads) ** -0.5, split(self.k(u)), split(self.v(u))
        read = ((q @ k.transpose(-2, -1)).softmax(dim=-1) @ v).transpose(1, 2).reshape(b, 1, d)
        query = query + self.proj(read)
        return query + self.mlp(self.norm2(query))


@functools.cache
def window(n):
    """The eight neighbours of every patch on a torus, [n, 8]."""
    side = int(n**0.5)
    near = [
        sorted({(y + dy) % side * side + (x + dx) % side for dy in (-1, 0, 1) for dx in (-1, 0, 1)} - {y * side + x})
        for y in range(side)
        for x in range(side)
    ]
    return torch.tensor(near)


class Aggregation(nn.Module):
    def __init__(self, dim, heads, k):
        super().__init__()
        self.token, self.k = nn.Parameter(torch.randn(1, 1, dim) * 0.02), k
        self.blocks = nn.ModuleList(ClassBlock(dim, heads) for _ in range(2))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def targets(self, x):
        """The pooled positives of every patch."""
        b, n, d = x.shape
        near = window(n)
        contexts = x[:, near]  # [b, n, 8, d]
        unit = F.normalize(x, dim=-1)
        cosines = (unit[:, near] @ unit.unsqueeze(-1)).squeeze(-1)
        best = cosines.topk(self.k, dim=-1, sorted=False).indices
        chosen = contexts.gather(2, best.unsqueeze(-1).expand(-1, -1, -1, d)).reshape(b * n, self.k, d)
        query = self.token.expand(b * n, -1, -1)
        for block in self.blocks:
            query = block(query, chosen)
        return query.reshape(b, n, d)

    def forward(self, x, targets):
        query = self.token.expand(x.shape[0], -1, -1)
        for block in self.blocks:
            query = block(query, x)
        return self.norm(torch.cat([query, self.targets(x) if targets else x], dim=1))


class Head(nn.Module):
    def __init__(self, dim, out, hidden=2048, bottleneck=256):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, out, bias=False))
        self.last_layer.weight_g.data.fill_(1.0)
        self.last_layer.weight_g.requires_grad_(False)

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


class Network(nn.Module):
    def __init__(self, a):
        super().__init__()
        dim, heads = WIDTHS[a.arch]
        side = 224 // a.patch_size
        self.embed = nn.Conv2d(3, dim, a.patch_size, a.patch_size)
        self.positions = nn.Parameter(torch.randn(1, dim, side, side) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, DROP_PATH * i / (DEPTH - 1)) for i in range(DEPTH))
        self.aggregation = Aggregation(dim, heads, a.k_num)
        self.c_head, self.p_head = Head(dim, a.out_dim), Head(dim, a.out_dim_selfpatch)

    def forward(self, x, targets):
        x = self.embed(x)
        positions = self.positions
        if x.shape[2:] != positions.shape[2:]:
            scale = (x.shape[2] + 0.1) / positions.shape[2]
            positions = F.interpolate(positions, scale_factor=(scale, scale), mode="bicubic")
        x = (x + positions).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        x = self.aggregation(x, targets)
        return self.c_head(x[:, :1]), self.p_head(x[:, 1:])


class Loss:
    def __init__(self, a):
        self.center = torch.zeros(1, 1, a.out_dim)
        self.patch_center = torch.zeros(1, 1, a.out_dim_selfpatch)
        self.local = a.local

    def __call__(self, student, teacher, temp=0.04, student_temp=0.1):
        views = lambda pair, i: [*pair[0][i].chunk(2), *(pair[1][i].chunk(self.local) if self.local else [])]
        (sc, sp), (tc, tp) = (views(student, 0), views(student, 1)), (views(teacher, 0), views(teacher, 1))
        image, patch, pairs = 0.0, 0.0, 0
        for i in range(len(sc)):
            goal = F.softmax((tp[i] - self.patch_center) / temp, dim=-1)
            patch = patch + torch.sum(-goal * F.log_softmax(sp[i] / student_temp, dim=-1), dim=-1).mean()
            goal = F.softmax((tc[i] - self.center) / temp, dim=-1)
            for j in range(len(sc)):
                if i < 2 and i != j:
                    image = image + torch.sum(-goal * F.log_softmax(sc[j] / student_temp, dim=-1), dim=-1).mean()
                    pairs += 1
        with torch.no_grad():
            self.center = self.center * 0.9 + torch.cat(tc).mean(dim=0, keepdim=True) * 0.1
            rows = sum(t.shape[0] * t.shape[1] for t in tp)
            self.patch_center = self.patch_center * 0.9 + sum(t.sum(dim=(0, 1)) for t in tp) / rows * 0.1
        return image / pairs + 0.1 * patch / len(sc)


def training(a):
    student, teacher = Network(a), Network(a).requires_grad_(False)
    teacher.load_state_dict(student.state_dict())
    teacher.eval()
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    flat = lambda n, p: n.endswith(".bias") or p.ndim == 1
    groups = [
        {"params": [p for n, p in named if not flat(n, p)], "weight_decay": 0.04},
        {"params": [p for n, p in named if flat(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    loss_of = Loss(a)
    crops = [torch.randn(2 * a.batch, 3, 224, 224)]
    if a.local:
        crops.append(torch.randn(a.local * a.batch, 3, 96, 96))

    def step():
        with torch.no_grad():
            goals = [teacher(x, True) for x in crops]
        loss = loss_of([student(x, False) for x in crops], goals)
        optimizer.zero_grad()
        loss.backward()
        for _, p in named:
            factor = CLIP / (p.grad.norm(2) + 1e-6)
            if factor < 1:
                p.grad.mul_(factor)
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(student.parameters(), teacher.parameters()):
                q.mul_(0.996).add_((1 - 0.996) * p)
        return loss.item()

    return step


def targets(a):
    dim, heads = WIDTHS[a.arch]
    module = Aggregation(dim, heads, a.k_num)
    sides = [(2 * a.batch, 224 // a.patch_size), (a.local * a.batch, 96 // a.patch_size)]
    crops = [torch.randn(n, side * side, dim) for n, side in sides if n]

    @torch.no_grad()
    def step():
        for x in crops:
            module.norm(module.targets(x))
        return 0.0

    return step


def main(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    step = training(a) if a.part == "step" else targets(a)
    took = []
    for i in range(a.warmup + a.steps):
        start = time.perf_counter()
        loss = step()
        if i >= a.warmup:
            took.append(time.perf_counter() - start)
    took.sort()
    median = (took[(len(took) - 1) // 2] + took[len(took) // 2]) / 2
    print(json.dumps({
        "arch": a.arch, "mode": "pytorch", "part": a.part, "batch": a.batch, "crops": f"2+{a.local}",
        "out_dim": a.out_dim, "out_dim_selfpatch": a.out_dim_selfpatch, "threads": torch.get_num_threads(),
        "device": "cpu", "torch": torch.__version__, "steps": len(took), "seconds_per_step_median": median,
        "seconds_per_step_min": took[0], "images_per_second": a.batch / median, "loss": loss,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main(ARGS)
