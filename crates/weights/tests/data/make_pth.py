"""Writes the .pth files that tests/weights.rs and tests/hostile.rs read: python make_pth.py [folder].

Needs torch (made with 2.13.0) and numpy. The values follow from their positions, so the tests
can state them; each file stays below 20 KB. All but legacy.pth come out the same on every run.
"""

import argparse
import collections
import pathlib
import sys
import zipfile

import numpy
import torch


def counting(*shape, start=0.0):
    """start, start + 1, ... in row-major order."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) + start


def flat():
    """One of everything a state_dict may hold."""
    base = counting(4, 3)
    state = collections.OrderedDict()
    state["plain"] = base
    state["transposed"] = base.t()
    state["columns"] = base[1:, 1:]
    state["tail"] = base.flatten()[9:]
    state["tied"] = base
    state["parameter"] = torch.nn.Parameter(counting(2, start=0.5))
    state["scalar"] = torch.tensor(7.25)
    state["empty"] = torch.zeros(0, 3)
    state["permuted"] = counting(2, 3, 4).permute(2, 0, 1)
    state["half"] = counting(3, start=0.5).half()
    state["brain"] = counting(3, start=0.5).bfloat16()
    state["double"] = counting(3, start=0.1).double()
    state["long"] = torch.tensor([-(2**40), 0, 2**40])
    state["int"] = torch.tensor([-7, 7], dtype=torch.int32)
    state["short"] = torch.tensor([-7, 7], dtype=torch.int16)
    state["byte"] = torch.tensor([0, 128, 255], dtype=torch.uint8)
    state["mask"] = torch.tensor([True, False])
    state["unsigned"] = torch.tensor([1, 2], dtype=torch.uint16)
    return state


class Block(torch.nn.Module):
    """A module whose state_dict has DINO's kind of names."""

    def __init__(self):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 2)])
        self.norm = torch.nn.LayerNorm(4)
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(counting(*parameter.shape, start=100.0 * index))


class Wrapper(torch.nn.Module):
    """Puts `name.` in front of all names."""

    def __init__(self, name, inner):
        super().__init__()
        self.add_module(name, inner)


def dino():
    """A training checkpoint with everything DINO's main_dino.py saves, and a little more."""
    teacher = Wrapper("backbone", Block())
    student = Wrapper("module", Wrapper("backbone", Block()))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    sum(p.square().sum() for p in student.parameters()).backward()
    optimizer.step()
    options = argparse.Namespace(
        arch="vit_small", patch_size=16, lr=0.0005, use_fp16=True, local_crops_scale=(0.05, 0.4),
        output_dir=pathlib.PurePosixPath("out"), gpu=None, sizes={1, 2}, seed=-1, big=2**70,
    )
    return {
        "student": student.state_dict(),
        "teacher": teacher.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 5,
        "args": options,
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": None,
        "best": numpy.float64(0.5),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    torch.save(flat(), folder / "flat.pth")
    torch.save(flat(), folder / "protocol4.pth", pickle_protocol=4)
    torch.save(dino(), folder / "dino.pth")
    small = {"plain": counting(2)}
    torch.save(small, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(small, folder / "small.pth")
    with zipfile.ZipFile(folder / "small.pth") as stored:
        with zipfile.ZipFile(folder / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as deflated:
            for entry in stored.infolist():
                copy = zipfile.ZipInfo(entry.filename)  # with a fixed date
                deflated.writestr(copy, stored.read(entry), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
