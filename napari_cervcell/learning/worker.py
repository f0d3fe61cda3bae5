"""The trainer's process: ``python -m napari_cervcell.learning.worker``, one JSON message a line on standard output."""

from __future__ import annotations

import argparse
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from ..casefile import Case, RoundState
from ..errors import CervcellError
from ..slides import open_slide
from .fitting import Step
from .rounds import current_model, train_round

__all__ = ["main"]


def _say(kind: str, **values: Any) -> None:
    print(json.dumps({"kind": kind, **values}), flush=True)


def _end_with_parent() -> None:
    """End this process when the parent closes our standard input, i.e. also when it is killed."""

    def wait() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock the interpreter wants when it ends
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reviewer")
    args = parser.parse_args()
    _end_with_parent()
    with suppress(OSError, AttributeError):
        os.nice(10)  # the window comes first
    try:
        _round(args.case, args.slide, args.seconds, args.seed, args.reviewer)
    except CervcellError as error:
        _say("failed", message=str(error))
    except MemoryError:
        _say("failed", message=f"There is not enough memory to train on {args.case}. Close other programs, try again.")
    except Exception as error:  # a mistake of ours: the reviewer is told, the traceback goes to standard error
        _say("failed", message=f"The round on {args.case} failed: {error!r}. The model in use stays.")
        raise


def _round(case_path: Path, slide_path: Path, seconds: float, seed: int, reviewer: str | None) -> None:
    with Case.open(case_path, reviewer) as case, open_slide(slide_path, mpp=case.mpp) as slide:
        parent = current_model(case)
        number = case.start_round(parent.id, {"seconds": seconds, "seed": seed})
        _say("started", round=number)

        smooth: list[float] = []

        def report(step: Step) -> None:
            # single batches differ more than the model changes: the mean of the last ones shows where it goes
            smooth.append(float(step.losses.total.detach()))
            _say(
                "progress",
                round=number,
                step=step.step + 1,
                done=step.done,
                loss=fmean(smooth[-20:]),
                seconds_left=max(0.0, seconds - step.seconds),
            )

        try:
            outcome = train_round(
                case, slide, seconds=seconds, seed=seed, on_step=report, on_stage=lambda text: _say("stage", text=text)
            )
        except Exception as error:
            case.finish_round(number, "failed", message=str(error))
            raise
        outcome.model.card["name"] = f"{parent.card['name'].split(' round ')[0]} round {number}"
        outcome.model.card["metrics"] = outcome.metrics
        state: RoundState = "promoted" if outcome.promoted else "candidate"
        case.finish_round(
            number, state, outcome.metrics, outcome.model.to_bytes(), outcome.model.id, message=outcome.message
        )
        _say("done", round=number, state=state, metrics=outcome.metrics, message=outcome.message)


if __name__ == "__main__":
    main()
