"""Split fields into train, val and test, by field and never by cell; writes ``training/splits.csv``.

    python training/make_splits.py --data DIR

Of many random splits the one is kept whose cells per class come nearest to the wanted shares, so that the rare classes
stand on every side although they live in a handful of fields. No model is looked at.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

SHARES = {"train": 0.68, "val": 0.12, "test": 0.20}
TRIES = 20_000
SEED = 20220903


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images.csv and points.csv")
    data = parser.parse_args().data
    images = list(csv.DictReader((data / "images.csv").open()))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in csv.DictReader((data / "points.csv").open()):
        counts[row["image"]][row["class"]] += 1
    classes = sorted({c for counter in counts.values() for c in counter})
    table = np.array([[counts[i["image"]][c] for c in classes] for i in images], float)
    present = table > 0

    rng = np.random.default_rng(SEED)
    names = list(SHARES)
    sizes = [round(SHARES[n] * len(images)) for n in names[1:]]
    sides = np.repeat(np.arange(3), [len(images) - sum(sizes), *sizes])
    wanted = np.array(list(SHARES.values()))[:, None]
    best, best_cost = sides, np.inf
    for _ in range(TRIES):
        rng.shuffle(sides)
        one_hot = np.eye(3)[sides].T
        # both the cells and the fields that hold a class should be shared out
        cost = sum((((one_hot @ t) / t.sum(0) - wanted) ** 2).sum() for t in (table, present.astype(float)))
        if cost < best_cost:
            best, best_cost = sides.copy(), cost
    with Path(__file__).with_name("splits.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["image", "image_id", "split"])
        for row, side in zip(images, best, strict=True):
            writer.writerow([row["image"], row["image_id"], names[side]])
    for k, name in enumerate(names):
        print(
            name, int((best == k).sum()), "fields", dict(zip(classes, table[best == k].sum(0).astype(int), strict=True))
        )


if __name__ == "__main__":
    main()
