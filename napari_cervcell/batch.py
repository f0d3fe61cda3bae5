"""Detection on many slides: one after the other, or each on a worker of a dask cluster."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CervcellError
from .taxonomy import BETHESDA
from .weights import ACCURATE_MODEL, model_file

if TYPE_CHECKING:
    from .casefile import Case
    from .detection import Scan
    from .models import Model
    from .slides import Slide

__all__ = ["BatchError", "Job", "Outcome", "Tell", "detect_many", "detect_one", "threads_each"]

_TOPIC = "cervcell-progress"
_SECONDS_TO_CONNECT = 10
_LOST = (
    "The connection to the dask scheduler was lost. What was found so far is kept in the case files. Start the same "
    "command again to go on."
)


class BatchError(CervcellError):
    """Slides cannot be given to workers, or one cannot be detected on."""


@dataclass(frozen=True, slots=True)
class Job:
    """One slide to find cells on. Paths are those that the worker sees.

    Attributes
    ----------
    slide, case : Path
        The case file is made where there is none; what it holds of this model is not done again.
    model : Path, optional
        A model file, or the bare word "accurate" for the one of that name that ships, wherever the worker has it. By
        default the case's own, else the shipped one.
    device : str
        One of `napari_cervcell.detection.DEVICES`.
    region : (x1, y1, x2, y2), level-0 px, optional
    mpp : float, optional
        µm per px, for a slide that does not say, or not rightly. The case remembers it.
    threads : int, optional
        CPU threads of the network; all cores by default.
    """

    slide: Path
    case: Path
    model: Path | None = None
    device: str = "auto"
    region: tuple[float, float, float, float] | None = None
    mpp: float | None = None
    threads: int | None = None


Tell = Callable[[Job, int, int, int, float], None]
"""Told of progress: (job, tiles done, tiles in all, cells found, seconds left)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: either an `answer` (see :func:`detect_one`) or the `error` that ended its second try."""

    job: Job
    answer: dict[str, Any] | None = None
    error: str = ""


def detect_one(job: Job, tell: Tell) -> dict[str, Any]:
    """Do a job in this process; return its figures, ready for JSON. Raises CervcellError."""
    from .casefile import open_case
    from .detection import Scan
    from .review.models import use_accurate
    from .slides import foreground, open_slide

    start = time.monotonic()
    with open_slide(job.slide) as slide, ExitStack() as stack:
        case = stack.enter_context(open_case(job.case, slide)) if os.path.exists(job.case) else None
        model = _agreed_model(job, slide, case)
        # what is refused changes nothing in a case, and leaves no new one
        Scan(slide, model, region=job.region, device=job.device)
        seen = foreground(slide)
        if case is None:
            case = stack.enter_context(open_case(job.case, slide))
            model = _agreed_model(job, slide, case)  # again, for somebody else may have made the case meanwhile
        scan = Scan(slide, model, region=job.region, foreground=seen, device=job.device, case=case, threads=job.threads)
        if job.mpp is not None:
            case.mpp = job.mpp
        if _wants_accurate(job):
            use_accurate(case)  # so that learning goes on from it, as after detection in the window
        unreadable = []
        for step in scan.run():
            if not step.readable:
                unreadable.append([step.tile.x, step.tile.y, step.tile.size])
            tell(job, step.done, step.total, step.found, step.seconds_left)
        figures = {**_figures(job, scan, case), "unreadable_tiles": len(unreadable), "unreadable": unreadable}
        return {**figures, "seconds": round(time.monotonic() - start, 2)}


def _agreed_model(job: Job, slide: Slide, case: Case | None) -> Model:
    """Return the model that does a job, into `case`, or None as long as there is none; the slide gets its µm per pixel.

    Raises CervcellError where job, slide, case and model do not go together.
    """
    _check_region(job, slide)
    _agree_on_mpp(job, slide, case)
    model = _model_for(job, case)
    model.check_classes(case.taxonomy if case else BETHESDA, str(job.model or model.name))
    return model


def _wants_accurate(job: Job) -> bool:
    return job.model is not None and model_file(str(job.model)) == ACCURATE_MODEL


def _model_for(job: Job, case: Case | None) -> Model:
    from .learning import current_model
    from .models import load_model, model_from_bytes
    from .review.models import kept_accurate

    if job.model is None:
        return current_model(case)
    if case and _wants_accurate(job) and (kept := kept_accurate(case)) is not None:
        return model_from_bytes(case.round_model(kept), f"the model of {case.path}")
    return load_model(model_file(str(job.model)))


def _figures(job: Job, scan: Scan, case: Case) -> dict[str, Any]:
    cells = case.detections().cells
    if job.region:
        x, y = cells.centres.T
        x1, y1, x2, y2 = job.region
        cells = cells[(x >= x1) & (x < x2) & (y >= y1) & (y < y2)]
    shown = cells[cells.scores >= scan.model.threshold]
    figures = {
        "cells": {name: int((shown.labels == i).sum()) for i, name in enumerate(case.taxonomy.names)},
        "threshold": scan.model.threshold,
        "tiles": scan.total,
        "device": scan.device,
        "model": scan.model.name,
        "case": str(job.case),
    }
    if not scan.total:
        figures["note"] = "all of it was taken for empty glass, so that nobody has looked for cells"
    return figures


def detect_many(
    jobs: Sequence[Job], tell: Tell, *, workers: int = 0, scheduler: str = "", ended: Callable[[Outcome], None]
) -> list[Outcome]:
    """Do all jobs, each that fails once more; return what became of them, in their order.

    Parameters
    ----------
    workers : int
        Processes on this machine that share its cores; 0 for none but this one.
    scheduler : str
        Address of a dask scheduler, "tcp://host:8786", whose workers do the jobs instead. They must see the same files.
    ended : callable
        Told of every outcome when it is known.

    Raises BatchError where there is no scheduler, or dask.distributed is not installed.
    """
    outcomes: dict[Job, Outcome] = {}
    done = _on_cluster(jobs, tell, workers, scheduler) if workers or scheduler else _one_by_one(jobs, tell)
    for outcome in done:
        outcomes[outcome.job] = outcome
        ended(outcome)
    return [outcomes[job] for job in jobs]


def _one_by_one(jobs: Sequence[Job], tell: Tell) -> Iterator[Outcome]:
    for job in jobs:
        for last in (False, True):
            try:
                yield Outcome(job, detect_one(job, tell))
                break
            except Exception as error:  # whatever befalls one slide, the others are done
                if last:
                    yield _failed(job, error)


def _on_cluster(jobs: Sequence[Job], tell: Tell, workers: int, scheduler: str) -> Iterator[Outcome]:
    try:
        from distributed import as_completed
    except ImportError:
        raise BatchError("Clusters need dask.distributed: pip install 'napari-cervcell[cluster]'.") from None
    topic = f"{_TOPIC}-{uuid.uuid4().hex}"

    def hear(event: tuple[float, Any]) -> None:
        number, *figures = event[1]
        tell(jobs[number], *figures)

    with _client(workers, scheduler) as client:
        client.subscribe_topic(topic, hear)
        running = {client.submit(_as_task, job, i, topic, retries=1, pure=False): job for i, job in enumerate(jobs)}
        try:
            for future in as_completed(running):
                job = running[future]
                if future.status == "finished":
                    yield Outcome(job, future.result())
                elif future.status == "error":
                    yield _failed(job, future.exception())
                else:
                    yield Outcome(job, error=_LOST)
        finally:
            client.cancel(list(running), force=True)


def _failed(job: Job, error: BaseException) -> Outcome:
    return Outcome(job, error=str(error) if isinstance(error, CervcellError) else f"{type(error).__name__}: {error}")


@contextmanager
def _client(workers: int, scheduler: str) -> Iterator[Any]:
    from distributed import Client, LocalCluster
    from distributed.security import Security

    with ExitStack() as stack:
        if not scheduler:
            # over TCP and with one job at a time in each process, as on machines of their own
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp"
            )
            scheduler = stack.enter_context(cluster).scheduler_address
        # a client that fails half made can block the next one when it is collected, so that it is asked before
        if scheduler.startswith("tls:") and not Security().get_connection_args("client")["ssl_context"]:
            raise BatchError(
                f"The scheduler at {scheduler} wants TLS, and dask's configuration names no certificates. Name them "
                "there, on every machine: docs/cluster.md says how."
            )
        try:
            client = Client(scheduler, timeout=_SECONDS_TO_CONNECT)
        except (OSError, ValueError) as error:
            raise BatchError(
                f"No dask scheduler answers at {scheduler} ({error}). "
                "Start one with 'dask scheduler', or use --workers."
            ) from None
        yield stack.enter_context(client)


def _as_task(job: Job, number: int, topic: str) -> dict[str, Any]:
    """Do a job on a worker; what it tells goes to the client by way of the scheduler, at most twice a second.

    There it goes by its `number`: not every name of a file could be sent.
    """
    from distributed import get_worker

    worker, told = get_worker(), [0.0]

    def tell(_job: Job, done: int, total: int, found: int, left: float) -> None:
        if done == total or time.monotonic() > told[0] + 0.5:
            told[0] = time.monotonic()
            worker.log_event(topic, (number, done, total, found, left))

    return detect_one(job, tell)


def threads_each(workers: int) -> int | None:
    """Return how many CPU threads each of so many workers on this machine may use; None for all."""
    return max(1, (os.cpu_count() or 1) // workers) if workers else None


def _check_region(job: Job, slide: Slide) -> None:
    """Raise BatchError where the region of a job is nowhere on its slide."""
    if job.region is not None:
        x1, y1, x2, y2 = job.region
        if x1 >= slide.width or y1 >= slide.height or x2 <= 0 or y2 <= 0:
            raise BatchError(f"The region lies outside {slide.path}, which is {slide.width} × {slide.height} px.")


def _agree_on_mpp(job: Job, slide: Slide, case: Case | None) -> None:
    """Let the slide have the µm per pixel of the job, else of the case. Raises CervcellError without a possible one."""
    mpp = case.mpp if job.mpp is None and case else job.mpp
    if mpp not in (None, slide.mpp):
        slide.mpp = mpp
    if slide.mpp is None:
        raise BatchError(f"{slide.path} does not say its µm per pixel. Give it once with --mpp (40x is about 0.25).")
