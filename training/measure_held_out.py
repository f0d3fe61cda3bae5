"""Measure the shipped model on all labelled fields that it never saw, and note the figures on its card.

    python training/measure_held_out.py --held-out DIR [--model FILE]

DIR is what ``training/make_held_out.py`` makes: the test fields, of which the card's figures are already, and further
ones of the same source. The figures are those of ``cervcell evaluate --data DIR``; no weight changes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from train import SHIPPED

from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.fields import read_fields
from napari_cervcell.models import load_model, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    args = parser.parse_args()
    model = load_model(args.model)
    model.card["metrics"]["all_held_out"] = {
        "on": "the same and further fields of the source (training/make_held_out.py)",
        **evaluate(model, read_fields(args.held_out, model.taxonomy)),
    }
    save_model(model, args.model)
    print(json.dumps(model.card["metrics"]["all_held_out"], indent=2))


if __name__ == "__main__":
    main()
