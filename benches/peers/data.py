"""DINO's multi-crop augmentation with Pillow and torchvision, timed: the peer of `bench data`.

    data.py FOLDER --threads 1 --images 512

Prints one line of JSON. Every worker is a process, as in torch's DataLoader; with one worker the work is
done in this process. CPU time is that of this process and its workers, start-up left out.
"""
import argparse
import json
import os
import random
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from PIL import Image, ImageFilter, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T


class Blur:
    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        if random.random() >= self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


class Solarize:
    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        return ImageOps.solarize(image) if random.random() < self.p else image


def view(size, scale, blur, solarize):
    return T.Compose([
        T.RandomResizedCrop(size, scale=scale, interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(0.5),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        T.RandomGrayscale(0.2),
        Blur(blur),
        Solarize(solarize),
        T.ToTensor(),
        T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])


class Views(Dataset):
    def __init__(self, folder, count):
        self.files = sorted(
            os.path.join(root, name)
            for root, _, names in os.walk(folder)
            for name in names
            if name.lower().endswith((".jpg", ".jpeg", ".png"))
        )
        self.count = count
        local = view(96, (0.05, 0.25), 0.5, 0.0)
        self.views = [view(224, (0.25, 1.0), 1.0, 0.0), view(224, (0.25, 1.0), 0.1, 0.2)] + [local] * 8

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        with open(self.files[i % len(self.files)], "rb") as file:
            image = Image.open(file).convert("RGB")
        return [view(image) for view in self.views]


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=512)
    a = parser.parse_args()
    torch.set_num_threads(1)
    data = Views(a.folder, a.images)
    data[0]  # loads what is loaded late
    workers = a.threads if a.threads > 1 else 0
    loader = DataLoader(data, batch_size=8, num_workers=workers, collate_fn=lambda batch: len(batch))
    start, used = time.perf_counter(), cpu()
    done = sum(loader)
    seconds, used = time.perf_counter() - start, cpu() - used
    print(json.dumps({"images_per_second": done / seconds, "images_per_cpu_second": done / used}))


if __name__ == "__main__":
    main()
