#!/usr/bin/env python3
"""One SelfPatch training step in PyTorch, doing the work that the published program does: both crop sizes
through the network one after the other, a patch's positives gathered first and then projected. Three ways:

    reference   as published: attention step by step, one log-softmax per pair of views, loops over parameters
    tuned       the same sums by PyTorch's fast paths: scaled_dot_product_attention, one log-softmax per view,
                fused AdamW, clipping and average over all parameters at once
    compiled    tuned, with networks and loss through torch.compile

    peer.py --arch vit_tiny --batch 4 --threads 2                    prints one line of JSON
    peer.py --arch vit_small --batch 64 --device cuda --autocast bf16 --variant tuned
    peer.py --part targets --batch 4 --threads 2                     the teacher's matching + aggregation alone
    peer.py --worker                                                 a line of JSON in (these flags), a line out

The weights are random; so are the 2 global and `--local` local crops.
"""
import argparse
import contextlib
import gc
import json
import math
import os
import resource
import sys
import threading
import time

WIDTHS = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}

parser = argparse.ArgumentParser()
parser.add_argument("--worker", action="store_true")
parser.add_argument("--variant", default="reference", choices=["reference", "tuned", "compiled"])
parser.add_argument("--part", default="step", choices=["step", "targets"])
parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
parser.add_argument("--autocast", default="f32", choices=["f32", "bf16", "fp16"])
parser.add_argument("--arch", default="vit_tiny")
parser.add_argument("--width", type=int, help="for an arch without a name")
parser.add_argument("--heads", type=int)
parser.add_argument("--depth", type=int, default=12)
parser.add_argument("--patch-size", type=int, default=16)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--global-size", type=int, default=224)
parser.add_argument("--local-size", type=int, default=96)
parser.add_argument("--local", type=int, default=8)
parser.add_argument("--hidden-dim", type=int, default=2048)
parser.add_argument("--bottleneck-dim", type=int, default=256)
parser.add_argument("--out-dim", type=int, default=65536)
parser.add_argument("--out-dim-selfpatch", type=int, default=4096)
parser.add_argument("--k-num", type=int, default=4)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this time and five steps")
parser.add_argument("--warmup", type=int, default=1)
parser.add_argument("--threads", type=int, default=os.cpu_count())

if __name__ == "__main__":  # before torch starts its threads
    ARGS = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)

import torch
from torch import nn
from torch.nn import functional as F

DROP_PATH, CLIP, MOMENTUM = 0.1, 3.0, 0.996


def drop_path(x, rate, training):
    if rate == 0.0 or not training:
        return x
    keep = 1.0 - rate
    alive = torch.rand(x.shape[0], 1, 1, dtype=x.dtype, device=x.device).add_(keep).floor_()
    return x.div(keep) * alive


def mlp(dim, hidden):
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, rate, fused):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp, self.heads, self.rate, self.fused = mlp(dim, 4 * dim), heads, rate, fused

    def attention(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            read = F.scaled_dot_product_attention(q, k, v)
        else:
            read = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(dim=-1) @ v
        return self.proj(read.transpose(1, 2).reshape(b, n, d))

    def forward(self, x):
        x = x + drop_path(self.attention(self.norm1(x)), self.rate, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.rate, self.training)


class ClassBlock(nn.Module):
    """One query token reads itself and a context."""

    def __init__(self, dim, heads, fused):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp, self.heads, self.fused = mlp(dim, 4 * dim), heads, fused

    def forward(self, query, context):
        u = self.norm1(torch.cat([query, context], dim=1))
        b, n, d = u.shape
        split = lambda t: t.reshape(b, -1, self.heads, d // self.heads).transpose(1, 2)
        q, k, v = split(self.q(u[:, :1])), split(self.k(u)), split(self.v(u))
        if self.fused:
            read = F.scaled_dot_product_attention(q, k, v)
        else:
            read = (q * (d // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        query = query + self.proj(read.transpose(1, 2).reshape(b, 1, d))
        return query + self.mlp(self.norm2(query))


def window(n):
    """The eight neighbours of every patch on a torus, [n, 8]."""
    side = int(n**0.5)
    near = [
        [(y + dy) % side * side + (x + dx) % side for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
        for y in range(side)
        for x in range(side)
    ]
    return torch.tensor(near)


def sides(a):
    """Patches of a crop's side, per size of crop."""
    return [size // a.patch_size for size in ([a.global_size, a.local_size] if a.local else [a.global_size])]


class Aggregation(nn.Module):
    def __init__(self, a, dim, heads, fused):
        super().__init__()
        self.token, self.k = nn.Parameter(torch.randn(1, 1, dim) * 0.02), a.k_num
        self.blocks = nn.ModuleList(ClassBlock(dim, heads, fused) for _ in range(2))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for side in sides(a):
            self.register_buffer(f"near{side * side}", window(side * side))

    def targets(self, x):
        """The pooled positives of every patch."""
        b, n, d = x.shape
        near = getattr(self, f"near{n}")
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


class Prototypes(nn.Module):
    """A linear layer without bias whose rows have norm 1."""

    def __init__(self, dim, out):
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out, 1), requires_grad=False)
        self.weight_v = nn.Parameter(nn.Linear(dim, out, bias=False).weight.detach())

    def forward(self, x):
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class Head(nn.Module):
    def __init__(self, a, dim, out):
        super().__init__()
        hidden, bottleneck = a.hidden_dim, a.bottleneck_dim
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = Prototypes(bottleneck, out)

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


class Network(nn.Module):
    def __init__(self, a):
        super().__init__()
        dim, heads = WIDTHS.get(a.arch) or (a.width, a.heads)
        fused, side, last = a.variant != "reference", a.global_size // a.patch_size, max(a.depth - 1, 1)
        self.embed = nn.Conv2d(3, dim, a.patch_size, a.patch_size)
        self.positions = nn.Parameter(torch.randn(1, dim, side, side) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, DROP_PATH * i / last, fused) for i in range(a.depth))
        self.aggregation = Aggregation(a, dim, heads, fused)
        self.c_head, self.p_head = Head(a, dim, a.out_dim), Head(a, dim, a.out_dim_selfpatch)

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
        self.local, self.once = a.local, a.variant != "reference"
        self.losses = torch.compile(self.sums, dynamic=False) if a.variant == "compiled" else self.sums

    def sums(self, sc, sp, tc, tp, center, patch_center, temp=0.04, student_temp=0.1):
        logs = lambda s: F.log_softmax(s / student_temp, dim=-1)
        image, patch, pairs = 0.0, 0.0, 0
        known = [logs(s) for s in sc] if self.once else None
        for i in range(len(sc)):
            goal = F.softmax((tp[i] - patch_center) / temp, dim=-1)
            patch = patch + torch.sum(-goal * logs(sp[i]), dim=-1).mean()
            if i < 2:
                goal = F.softmax((tc[i] - center) / temp, dim=-1)
            for j in range(len(sc)):
                if i < 2 and i != j:
                    log = known[j] if self.once else logs(sc[j])
                    image = image + torch.sum(-goal * log, dim=-1).mean()
                    pairs += 1
        return image / pairs + 0.1 * patch / len(sc)

    def __call__(self, student, teacher):
        views = lambda pair, i: [*pair[0][i].chunk(2), *(pair[1][i].chunk(self.local) if self.local else [])]
        (sc, sp), (tc, tp) = (views(student, 0), views(student, 1)), (views(teacher, 0), views(teacher, 1))
        loss = self.losses(sc, sp, tc, tp, self.center, self.patch_center)
        with torch.no_grad():
            self.center = self.center * 0.9 + torch.cat(tc).mean(dim=0, keepdim=True) * 0.1
            rows = sum(t.shape[0] * t.shape[1] for t in tp)
            self.patch_center = self.patch_center * 0.9 + sum(t.sum(dim=(0, 1)) for t in tp) / rows * 0.1
        return loss


def clip(grads, fast):
    if fast:
        factors = (CLIP / (torch.stack(torch._foreach_norm(grads)) + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, list(factors.unbind()))
        return
    for grad in grads:
        factor = CLIP / (grad.norm(2) + 1e-6)
        if factor < 1:
            grad.mul_(factor)


@torch.no_grad()
def average(teacher, student, fast):
    if fast:
        torch._foreach_lerp_(teacher, student, 1 - MOMENTUM)
        return
    for q, p in zip(teacher, student):
        q.mul_(MOMENTUM).add_((1 - MOMENTUM) * p)


def random_crops(a, shape):
    crops = [shape(2 * a.batch, a.global_size)]
    return crops + ([shape(a.local * a.batch, a.local_size)] if a.local else [])


def training(a):
    fast = a.variant != "reference"
    student, teacher = Network(a), Network(a).requires_grad_(False)
    teacher.load_state_dict(student.state_dict())
    teacher.eval()
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    flat = lambda n, p: n.endswith(".bias") or p.ndim == 1
    groups = [
        {"params": [p for n, p in named if not flat(n, p)], "weight_decay": 0.04},
        {"params": [p for n, p in named if flat(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, **({"fused": True} if fast else {}))
    loss_of = Loss(a)
    crops = random_crops(a, lambda n, size: torch.randn(n, 3, size, size))
    whole = (lambda net: torch.compile(net, dynamic=False)) if a.variant == "compiled" else (lambda net: net)
    run_student, run_teacher = whole(student), whole(teacher)
    both = list(teacher.parameters()), list(student.parameters())
    half = {"f32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[a.autocast]

    def step():
        with torch.autocast(a.device.split(":")[0], half) if half else contextlib.nullcontext():
            with torch.no_grad():
                goals = [run_teacher(x, True) for x in crops]
            loss = loss_of([run_student(x, False) for x in crops], goals)
        optimizer.zero_grad()
        loss.backward()
        clip([p.grad for _, p in named], fast)
        optimizer.step()
        average(*both, fast)
        return loss.item()

    return step


def targets(a):
    dim, heads = WIDTHS.get(a.arch) or (a.width, a.heads)
    module = Aggregation(a, dim, heads, a.variant != "reference")
    crops = random_crops(a, lambda n, size: torch.randn(n, (size // a.patch_size) ** 2, dim))

    @torch.no_grad()
    def step():
        for x in crops:
            module.norm(module.targets(x))
        return 0.0

    return step


def measured(a):
    cuda = a.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    with torch.device(a.device):
        step = training(a) if a.part == "step" else targets(a)
    took, begun = [], None
    for i in range(a.warmup + a.steps):
        if i == a.warmup:
            begun = time.perf_counter()
        start = time.perf_counter()
        loss = step()
        if cuda:
            torch.cuda.synchronize()
        if i >= a.warmup:
            took.append(time.perf_counter() - start)
            if len(took) >= 5 and time.perf_counter() - begun > a.seconds:
                break
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ordered = sorted(took)
    median = (ordered[(len(took) - 1) // 2] + ordered[len(took) // 2]) / 2
    return {
        "arch": a.arch, "mode": "pytorch", "variant": a.variant, "part": a.part, "batch": a.batch,
        "crops": f"2+{a.local}", "out_dim": a.out_dim, "out_dim_selfpatch": a.out_dim_selfpatch,
        "threads": torch.get_num_threads(), "device": a.device, "torch": torch.__version__,
        "steps": len(took), "seconds": took, "seconds_per_step_median": median,
        "seconds_per_step_min": ordered[0], "images_per_second": a.batch / median, "loss": loss if math.isfinite(loss) else None,
        "peak_memory_bytes": peak, "reserved_memory_bytes": torch.cuda.max_memory_reserved() if cuda else None,
    }


def answer(a):
    """What one job comes to; running out of memory is an answer too."""
    try:
        return measured(a)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else 'no reason given'}"}


def end_with_parent(parent):
    """Ends this process soon after the check that started it: nobody would read the answer."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def work(a):
    # Whatever else prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cuda = a.device.startswith("cuda")
    if cuda and ":" in a.device and torch.cuda.is_available():
        torch.cuda.set_device(a.device)
    threading.Thread(target=end_with_parent, args=[os.getppid()], daemon=True).start()
    for line in sys.stdin:
        job = json.loads(line)
        if job.get("job") == "device":
            got = {"torch": torch.__version__, "cuda": torch.version.cuda}
            if cuda and not torch.cuda.is_available():
                got = {"error": f"PyTorch {torch.__version__} finds no CUDA device"}
        else:
            got = answer(argparse.Namespace(**{**vars(a), **job}))
        gc.collect()
        if cuda and torch.cuda.is_available():
            torch.cuda.empty_cache()
        torch.compiler.reset()
        print(json.dumps(got), file=answers, flush=True)


def main(a):
    torch.set_num_threads(a.threads)
    if a.worker:
        work(a)
    else:
        print(json.dumps(measured(a)))


if __name__ == "__main__":
    main(ARGS)
