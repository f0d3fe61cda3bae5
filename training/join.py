"""Put detectors together as an ensemble, in one model file, and measure it.

    python training/join.py MODEL MODEL [MODEL ...] --data DIR --out FILE

All see the same µm per px and differ in backbone, neck and head alone. The first one's card is taken over, and its
embedding. DIR is laid out as for ``training/train.py``; its test fields are only touched for the figures on the card.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from train import finish

from napari_cervcell.models import Model, build, load_model

FREE = ("backbone", "neck", "head")


def joined(models: Sequence[Model], name: str) -> Model:
    """Return one model that says the mean of what `models` say.

    Raises ValueError for models that differ in more than `FREE`, in their classes or in their µm per px.
    """
    first = models[0]
    for other in models[1:]:
        same = {k: v for k, v in other.card["architecture"].items() if k not in FREE}
        if not same.items() <= first.card["architecture"].items() or other.mpp != first.mpp:
            raise ValueError(f"{other.name} cannot be joined to {first.name}: another width, µm per px or such.")
        first.check_classes(other.taxonomy, other.name)
    card = copy.deepcopy(first.card)
    card["name"] = name
    card["architecture"]["ensemble_with"] = [{k: m.card["architecture"][k] for k in FREE} for m in models[1:]]
    members = [{"name": m.name, "id": m.id, "training": m.card["training"]} for m in models]
    goes_on = {k: v for k, v in first.card["training"].items() if k in ("progress", "margin")}  # what rounds go by
    card["training"] = {"recipe": "training/join.py", "members": members, **goes_on}
    network = build(card["architecture"])
    for part in FREE:
        together = getattr(network, part).members
        for member, model in zip(together, models, strict=True):
            member.load_state_dict(getattr(model.network, part).state_dict())
    return Model(network.eval(), card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    finish(joined([load_model(path) for path in args.models], args.out.stem), args.data, args.out)


if __name__ == "__main__":
    main()
