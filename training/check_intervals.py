"""Hold sittings without rounds on labelled fields, and count how often the truth lies in the intervals that are shown.

    python training/check_intervals.py --data DIR [--sittings 500] [--clicks 150] [--split test]

The fields of a split lie on one slide, which the shipped model looks at once. In every sitting all cells are
moved by a few pixels, as the draws of the random sample depend on the place alone; then the reviewer of `cervcell
simulate` works through the session, without error. Counted are only figures that rest on something.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from napari_cervcell.casefile import Case
from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.detection import Scan
from napari_cervcell.learning import read_fields, split_names
from napari_cervcell.learning.evaluation import match_points
from napari_cervcell.models import load_model
from napari_cervcell.review import Session
from napari_cervcell.simulation.data import Truth, lay_out
from napari_cervcell.simulation.oracle import Oracle
from napari_cervcell.slides import open_slide
from napari_cervcell.taxonomy import BETHESDA

HERE = Path(__file__).parent
THRESHOLD = 0.5
ROOM = 64  # px that cells may be moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sittings", type=int, default=500)
    parser.add_argument("--clicks", type=int, default=150)
    parser.add_argument("--split", choices=("test", "val"), default="test", help="which fields (default: test)")
    args = parser.parse_args()
    fields = read_fields(args.data, BETHESDA, split_names(HERE / "splits.csv", args.split))
    covered: dict[tuple[str, str], list[bool]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.tiff"
        truth = lay_out(fields, path, np.random.default_rng(0))
        with open_slide(path) as slide:
            found = Cells.concatenate([p.cells for p in Scan(slide, load_model()).run()])
            size = slide.width + ROOM, slide.height + ROOM
        for seed in range(args.sittings):
            for what, name, inside in sitting(Path(folder) / f"{seed}.cervcell", size, found, truth, args.clicks, seed):
                covered[what, name].append(inside)
            if seed % 10 == 9 or seed + 1 == args.sittings:
                write(covered, seed + 1, args.clicks, args.split)  # what is counted so far


def sitting(
    path: Path, size: tuple[int, int], found: Cells, truth: Truth, clicks: int, seed: int
) -> list[tuple[str, str, bool]]:
    """Hold one; return for each figure which, of which class, and whether its interval holds the truth."""
    shift = np.tile(np.random.default_rng(seed).uniform(0, ROOM, 2), 2).astype(np.float32)
    moved = Cells(found.boxes + shift, found.labels, found.scores, found.class_scores)
    here = Truth(truth.boxes + shift, truth.labels, truth.areas + shift)
    width, height = size
    with Case.create(path, slide_name="pool.tiff", fingerprint=str(seed), width=width, height=height, mpp=0.25) as case:
        case.write_tile(case.start_run("model", "model", "slide"), 0, 0, max(size), moved)
        session = Session(None, case, threshold=THRESHOLD, seed=seed)
        oracle = Oracle(session, here, error=0.0, seed=seed)
        oracle.work(clicks)
        figures = session.figures()
        shown = np.flatnonzero(moved.scores >= THRESHOLD)
        shown = shown[np.argsort(-moved.scores[shown], kind="stable")]
        shown_as, is_of = moved.labels[shown], oracle.would_say(shown)  # a detection's row is its number
    path.unlink()
    hit = found_of(moved, here)
    answers = []
    for label, (name, figure) in enumerate(zip(BETHESDA.names, figures, strict=True)):
        cells = here.labels == label
        named = shown_as == label
        facts = {
            "precision": (figure.precision, (is_of[named] == label).mean() if named.any() else None),
            "recall": (figure.recall, hit[cells].mean() if cells.any() else None),
            "total": (figure.total, float(cells.sum()) if figure.with_missed else None),
        }
        for what, (estimate, fact) in facts.items():
            if fact is not None and estimate.asked:
                answers.append((what, name, bool(estimate.low - 1e-6 <= fact <= estimate.high + 1e-6)))
    return answers


def found_of(found: Cells, truth: Truth) -> np.ndarray:
    """Return bool (m,): the cells of the truth that are found, as `cervcell evaluate` has it."""
    hit = np.zeros(len(truth), bool)
    matched = match_points(found, centres_of(truth.boxes))
    hit[matched[matched >= 0]] = True
    return hit


def write(covered: dict[tuple[str, str], list[bool]], sittings: int, clicks: int, split: str) -> None:
    """Write the table and say the sums; written anew every ten sittings, so that an early stop costs nothing."""
    (HERE / "results").mkdir(exist_ok=True)
    name = "intervals.csv" if split == "test" else f"intervals_{split}.csv"
    with (HERE / "results" / name).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["figure", "class", "sittings", "clicks", "counted", "covered"])
        for what in ("precision", "recall", "total"):
            rows = {name: inside for (kind, name), inside in covered.items() if kind == what}
            rows["all"] = [b for inside in rows.values() for b in inside]
            for name, inside in rows.items():
                table.writerow([what, name, sittings, clicks, len(inside), f"{np.mean(inside):.3f}"])
            text = f"the truth lies in {np.mean(rows['all']):.1%} of {len(rows['all'])} intervals"
            print(f"{sittings} sittings, {what}: {text}", flush=True)


if __name__ == "__main__":
    main()
