"""The trainer's process: ``python -m napari_cervcell.learning.worker CASE SLIDE``.

It takes orders on standard input, one JSON object a line, and says what becomes of them on standard output likewise:

- ``{"do": "prepare"}``: look, while there is nothing else to do, at what a quick round would look at.
- ``{"do": "round", "quick": bool, "seconds": float or null, "seed": int, "reviewer": str or null}``: do a round, which
  that reviewer began. See `TrainingProcess` for what is said.

It ends when standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import platformdirs
import torch

from ..casefile import Case, RoundState
from ..errors import CervcellError, lacks_memory
from ..priority import give_way
from ..slides import Slide, open_slide
from .features import FeatureMemory
from .fitting import Step
from .quick import prepare, quick_round
from .recipe import knows_nothing
from .rounds import current_model, train_round

__all__ = ["main"]

Order = dict[str, Any]

_QUICK_SECONDS, _FULL_SECONDS = 6.0, 60.0


def _say(kind: str, **values: Any) -> None:
    print(json.dumps({"kind": kind, **values}), flush=True)


def _orders() -> queue.Queue[Order]:
    """Return the queue into which orders come; this process ends with its parent, also when that is killed."""
    orders: queue.Queue[Order] = queue.Queue()

    def listen() -> None:
        rest = b""
        # not through sys.stdin, whose lock the interpreter wants when it ends
        while some := os.read(0, 4096):
            *lines, rest = (rest + some).split(b"\n")
            for line in lines:
                orders.put(json.loads(line))
        os._exit(3)

    threading.Thread(target=listen, daemon=True).start()
    return orders


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("slide", type=Path)
    args = parser.parse_args()
    orders = _orders()
    give_way()  # the window comes first
    trainer = _Trainer(args.case, args.slide)
    while True:
        order = orders.get()
        if order["do"] == "round":
            trainer.round(order["quick"], order["seconds"], order["seed"], order["reviewer"])
        else:
            trainer.prepare(orders)
        if orders.empty():
            trainer.tidy()


class _Trainer:
    """Carries out the orders; between them only the features are kept, so that files may come, go and change."""

    def __init__(self, case: Path, slide: Path) -> None:
        self._case, self._slide = case, slide
        folder = Path(platformdirs.user_cache_dir("napari-cervcell", appauthor=False)) / "features"
        self._memory = FeatureMemory(folder=folder)
        self._threads = torch.get_num_threads()

    def tidy(self) -> None:
        self._memory.tidy()

    def _opened(self, stack: ExitStack, reviewer: str | None = None) -> tuple[Case, Slide]:
        case = stack.enter_context(Case.open(self._case, reviewer))
        return case, stack.enter_context(open_slide(self._slide, mpp=case.mpp))

    def prepare(self, orders: queue.Queue[Order]) -> None:
        """Prepare until all is done or the next order comes; what goes wrong is for the next round to tell."""
        torch.set_num_threads(1)  # nobody waits for this
        try:
            import_module("torch._dynamo")  # the first optimiser loads it, which takes seconds
            with ExitStack() as stack:
                for _ in prepare(*self._opened(stack), self._memory):
                    if not orders.empty():
                        return
            _say("prepared")
        except Exception as error:
            print(f"could not prepare: {error!r}", file=sys.stderr)
        finally:
            torch.set_num_threads(self._threads)

    def round(self, quick: bool, seconds: float | None, seed: int, reviewer: str | None) -> None:
        """Do a round, and say how it went whatever happens."""
        try:
            with ExitStack() as stack:
                self._round(*self._opened(stack, reviewer), quick, seconds, seed)
        except Exception as error:
            if not isinstance(error, CervcellError) and not lacks_memory(error):  # a mistake of ours
                traceback.print_exc()
            _say("failed", message=self._why(error))

    def _why(self, error: BaseException) -> str:
        """Say in a sentence why a round failed."""
        if isinstance(error, CervcellError):
            return str(error)
        if lacks_memory(error):
            return (
                f"There was not enough memory to train on {self._case}. Nothing is lost, and the model in use stays. "
                "Close other programs, then try again."
            )
        return f"The round on {self._case} failed: {error!r}. The model in use stays."

    def _round(self, case: Case, slide: Slide, quick: bool, seconds: float | None, seed: int) -> None:
        parent = current_model(case)
        quick = quick and not knows_nothing(parent)
        seconds = seconds or (_QUICK_SECONDS if quick else _FULL_SECONDS)
        settings = {"seconds": seconds, "seed": seed, "quick": quick, "events": case.newest_event}
        number = case.start_round(parent.id, settings)
        _say("started", round=number)
        smooth: list[float] = []

        def report(step: Step) -> None:
            # single batches differ more than the model changes: the mean of the last ones shows where it goes
            smooth.append(float(step.losses.total.detach()))
            left = seconds - step.seconds
            if step.done > 0:  # by steps it may be over sooner
                left = min(left, step.seconds * (1 / step.done - 1))
            _say(
                "progress",
                round=number,
                step=step.step + 1,
                done=step.done,
                loss=fmean(smooth[-20:]),
                seconds_left=max(0.0, left),
            )

        teach = (
            partial(quick_round, memory=self._memory) if quick else partial(train_round, measure=self._memory.measure)
        )
        try:
            outcome = teach(
                case, slide, seconds=seconds, seed=seed, on_step=report, on_stage=lambda text: _say("stage", text=text)
            )
            outcome.model.card["name"] = f"{parent.card['name'].split(' round ')[0]} round {number}"
            outcome.model.card["metrics"] = outcome.metrics
            wanted: RoundState = "promoted" if outcome.promoted else "candidate"
            model = outcome.model.to_bytes()
            state, message = case.finish_round(
                number, wanted, outcome.metrics, model, outcome.model.id, message=outcome.message
            )
        except BaseException as error:
            with suppress(CervcellError):  # say, a full disk
                case.finish_round(number, "failed", message=self._why(error))
            raise
        _say("done", round=number, state=state, metrics=outcome.metrics, message=message)


if __name__ == "__main__":
    main()
