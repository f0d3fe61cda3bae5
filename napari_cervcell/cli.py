"""The same work without a window: ``cervcell info``, ``detect``, ``train``, ``evaluate`` and so on.

Every command prints a few plain lines, or with ``--json`` one JSON object; what goes wrong is one line on standard
error and a non-zero exit. What a command needs is imported in its own function, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .bench.commands import add_benchmarks, add_screenshots
from .errors import CervcellError
from .files import made_folder
from .simulation.command import add_simulate_command
from .ui.command_line import add_window_commands
from .weights import ACCURATE_MODEL, model_file

if TYPE_CHECKING:
    from .casefile import Case

__all__ = ["main"]

# those of detection, which is slow to import
DEVICES = ("auto", "cuda", "mps", "cpu", "cpu-openvino", "cpu-openvino-f32", "cpu-torch")

Answer = dict[str, Any]


class CommandError(CervcellError):
    """The command line asks for something that cannot be done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.run(options)
        if answer is not None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
            print(json.dumps(answer, indent=2, ensure_ascii=False) if options.json else "\n".join(_plain(answer)))
            sys.stdout.flush()
    except CervcellError as error:
        print(f"cervcell: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"cervcell: {str(stop) or 'stopped; what was done so far is kept'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # nobody reads on; nor shall the interpreter try to write when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 1 if answer and answer.get("failed") else 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("a time is above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cervcell", description="Review cervical cytology slides.")
    parser.add_argument("--version", action="version", version=f"napari-cervcell {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Callable[[argparse.Namespace], Answer | None], text: str, among: Any = commands
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = among.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.set_defaults(run=run)
        return sub

    info = command("info", _info, "Say what a slide is: format, size, levels, µm per pixel.")
    info.add_argument("slide", type=Path)

    detect = command("detect", _detect, "Find cells on slides and write them to their case files.")
    detect.add_argument("slides", type=Path, nargs="+", metavar="slide")
    detect.add_argument("--case", type=Path, help="case file of the one slide; by default beside it")
    detect.add_argument("--cases", type=Path, metavar="DIR", help="folder for the case files of all slides")
    detect.add_argument(
        "--model", type=model_file, help="model file, or 'accurate'; by default the case's own, else the standard one"
    )
    detect.add_argument("--device", choices=DEVICES, default="auto", help="what computes (default: the best there is)")
    detect.add_argument(
        "--region", type=float, nargs=4, metavar=("X", "Y", "W", "H"), help="only tiles that touch this, level-0 px"
    )
    detect.add_argument("--mpp", type=float, help="µm per pixel, for slides that do not say, or not rightly")
    where = detect.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=0, metavar="N", help="this many slides at once, on this machine")
    where.add_argument("--scheduler", default="", metavar="tcp://HOST:8786", help="on the workers of a dask cluster")

    add_window_commands(command)
    add_screenshots(command, _progress)

    annotate = command("annotate", _annotate, "Bring verdicts from a table into a case, as a reviewer's.")
    annotate.add_argument("case", type=Path)
    annotate.add_argument(
        "--from", dest="table", type=Path, required=True, metavar="FILE.csv",
        help="columns x, y (level-0 px) and class, a class name or 'reject'",
    )  # fmt: skip
    annotate.add_argument("--reviewer", help="who says so; by default the login name")

    train = command("train", _train, "Do one incremental round on the corrections of a case.")
    train.add_argument("case", type=Path)
    train.add_argument("--out", type=Path, required=True, help="where the new model goes")
    train.add_argument("--slide", type=Path, help="the slide, where it has moved")
    train.add_argument("--quick", action="store_true", help="teach the head alone: seconds instead of minutes")
    train.add_argument("--seconds", type=_seconds, help="time to train (default: 60, or 6 for a quick round)")

    evaluate = command("evaluate", _evaluate, "Measure a model on labelled fields.")
    a_model = "model file, or 'accurate' (default: the standard one)"
    evaluate.add_argument("--model", type=model_file, help=a_model)
    evaluate.add_argument(
        "--data", type=Path, required=True, help="folder with images/ and images.csv, points.csv or a COCO file"
    )
    evaluate.add_argument(
        "--split", nargs=2, metavar=("FILE.csv", "NAME"), help="only images whose column 'split' in FILE.csv is NAME"
    )
    evaluate.add_argument("--device", choices=DEVICES, default="cpu-torch", help="what computes; auto: as detect does")

    quantize = command(
        "quantize",
        _quantize,
        "Make a model quicker on processors: in 8-bit integers, for all detection to come, if it still finds the same.",
    )
    which = quantize.add_mutually_exclusive_group()
    which.add_argument("--model", type=model_file, help=a_model)
    which.add_argument("--case", type=Path, help="the model in use in this case")
    quantize.add_argument("--undo", action="store_true", help="detect as before again")

    add_simulate_command(command, _progress)
    export = command("export", _export, "Write the cells of a case to a file.")
    export.add_argument("case", type=Path)
    export.add_argument("--format", choices=["geojson", "coco", "csv"], required=True)
    export.add_argument("--out", type=Path, required=True)

    report = command("report", _report, "Write what a case came to as a page to read, print or file (HTML).")
    report.add_argument("case", type=Path)
    report.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    report.add_argument("--slide", type=Path, help="the slide, where it has moved")

    imported = command("import", _import, "Bring cells from GeoJSON, COCO or CSV into a case, as a reviewer's.")
    imported.add_argument("case", type=Path)
    imported.add_argument("--from", dest="file", type=Path, required=True)

    make = command("make-slide", _make_slide, "Make a slide of any size for tests, with the truth beside it as CSV.")
    make.add_argument("out", type=Path, help="the slide, .svs or .tiff; the truth gets the same name with .csv")
    make.add_argument(
        "--size", type=int, nargs=2, default=(20_000, 20_000), metavar=("W", "H"),
        help="level-0 px of 0.25 µm (default: 20000 20000)",
    )  # fmt: skip
    make.add_argument("--seed", type=int, default=0, help="of the layout; the same seed gives the same bytes")
    make.add_argument("--density", type=float, default=300, help="labelled nuclei per mm² (default: %(default)s)")
    make.add_argument(
        "--noise", type=float, default=2,
        help="of the camera, grey levels: 0 gives a smooth slide, 10 at --quality 90 over 0.3 bytes a pixel "
        "(default: %(default)s)",
    )  # fmt: skip
    make.add_argument("--quality", type=int, default=80, help="of the JPEG tiles (default: %(default)s)")

    kinds = commands.add_parser(
        "bench", help="Measure this machine and this package beside others.", description="Measure, beside others."
    ).add_subparsers(required=True, metavar="what")
    add_benchmarks(lambda name, run, text: command(name, run, text, kinds), DEVICES, _progress)
    return parser


def _info(options: argparse.Namespace) -> Answer:
    from .slides import open_slide

    with open_slide(options.slide) as slide:
        return {
            "format": slide.format,
            "vendor": slide.vendor,
            "reader": slide.reader,
            "width": slide.width,
            "height": slide.height,
            "levels": [{"width": v.width, "height": v.height, "downsample": v.downsample} for v in slide.levels],
            "mpp": slide.mpp,
            "objective_power": slide.objective_power,
        }


def _detect(options: argparse.Namespace) -> Answer:
    from .batch import Job, Outcome, detect_many, detect_one, threads_each
    from .casefile import SUFFIX, default_case_path

    slides: list[Path] = [slide.absolute() for slide in options.slides]
    if options.case and len(slides) > 1:
        raise CommandError("--case is for one slide. Say with --cases DIR where the case files of several go.")
    if options.workers < 0:
        raise CommandError("The number of workers must be above 0.")
    region = None
    if options.region:
        x, y, w, h = options.region
        if not all(map(math.isfinite, options.region)) or w <= 0 or h <= 0:
            raise CommandError("A region is four numbers, and its width and height must be above 0.")
        region = (x, y, x + w, y + h)

    def case_of(slide: Path) -> Path:
        if options.case:
            return Path(options.case).absolute()
        return (options.cases / (slide.name + SUFFIX)).absolute() if options.cases else default_case_path(slide)

    # the word itself: workers have that model elsewhere
    model = Path("accurate") if options.model == ACCURATE_MODEL else options.model and options.model.absolute()
    threads = threads_each(options.workers)
    jobs = [Job(slide, case_of(slide), model, options.device, region, options.mpp, threads) for slide in slides]
    if len({job.case for job in jobs}) < len(jobs):
        raise CommandError("Two of the slides would share a case file. Give each slide once, and no two of one name.")
    if options.cases:
        made_folder(options.cases)
    start = time.monotonic()
    running: dict[Path, str] = {}
    ends: list[Outcome] = []

    def tell(job: Job, done: int, total: int, found: int, left: float) -> None:
        running[job.slide] = f"{job.slide.name}: {done}/{total} tiles, {found} cells, {left:.0f} s left"
        whole = [f"{len(ends)}/{len(jobs)} slides"] if len(jobs) > 1 else []
        _progress(" · ".join([*whole, *running.values()]))

    def ended(outcome: Outcome) -> None:
        ends.append(outcome)
        running.pop(outcome.job.slide, None)

    try:
        if len(jobs) == 1 and not (options.workers or options.scheduler):
            return detect_one(jobs[0], tell)
        outcomes = detect_many(jobs, tell, workers=options.workers, scheduler=options.scheduler, ended=ended)
    finally:
        _progress("")
    return {
        "slides": [{"slide": str(o.job.slide), **o.answer} for o in outcomes if o.answer is not None],
        "failed": [{"slide": str(o.job.slide), "error": o.error} for o in outcomes if o.answer is None],
        "seconds": round(time.monotonic() - start, 2),
    }


def _annotate(options: argparse.Namespace) -> Answer:
    from .casefile import Case
    from .review import Session, read_verdicts

    verdicts = read_verdicts(options.table)
    with Case.open(options.case, options.reviewer) as case:
        return asdict(Session(None, case).import_verdicts(verdicts))


def _train(options: argparse.Namespace) -> Answer:
    from .casefile import Case, note_place
    from .learning import TrainingProcess
    from .models import check_place, load_model, model_from_bytes, save_model

    start = time.monotonic()
    check_place(options.out)
    with Case.open(options.case) as case:
        note_place(case)
        process = TrainingProcess(options.case, _slide_of(case, options.slide))
        process.start(quick=options.quick, seconds=options.seconds)
        end: Answer = {}
        try:
            for message in process.messages():
                if message["kind"] == "progress":
                    left = f"{message['seconds_left']:.0f} s left"
                    _progress(f"step {message['step']}, loss {message['loss']:.3f}, {left}")
                elif message["kind"] in ("done", "failed"):
                    end = message
        finally:
            process.close()
        _progress("")
        if end.get("kind") != "done":
            raise CommandError(str(end.get("message", "The round ended without a result.")))
        save_model(model_from_bytes(case.round_model(end["round"])), options.out)
    return {
        "state": end["state"],
        "message": end["message"],
        "metrics": end["metrics"],
        "round": end["round"],
        "model": str(options.out),
        "model_name": load_model(options.out).name,
        "seconds": round(time.monotonic() - start, 1),
    }


def _evaluate(options: argparse.Namespace) -> Answer:
    from .detection import AnySize, pick_device
    from .learning import evaluate, read_fields, split_names
    from .models import load_model

    model = load_model(options.model)
    engine = AnySize(model, pick_device(options.device))
    names = split_names(*options.split) if options.split else None
    fields = read_fields(options.data, model.taxonomy, names)
    answer = evaluate(model, fields, lambda done, total: _progress(f"{done}/{total} fields"), engine)
    _progress("")
    return answer | {"device": engine.name}


def _quantize(options: argparse.Namespace) -> Answer:
    from .casefile import Case
    from .detection.conversion import forget_quantized
    from .learning import current_model
    from .models import load_model
    from .quantizing import quantize

    if options.case:
        with Case.open(options.case) as case:
            model = current_model(case)
    else:
        model = load_model(options.model)
    if options.undo:
        forget_quantized(model)
        return {"model": model.id, "used": False}
    result = quantize(model, _progress)
    return {
        "model": model.id,
        "used": result.used,
        "ap_before": result.before,
        "ap_after": result.after,
        "fields": result.fields,
    }


def _export(options: argparse.Namespace) -> Answer:
    from .casefile import Case, export_case

    with Case.open(options.case) as case:
        return {"cells": export_case(case, options.out, options.format), "file": str(options.out)}


def _report(options: argparse.Namespace) -> Answer:
    from .casefile import Case
    from .review import Report, Session
    from .review.models import left_threshold
    from .slides import open_slide

    with Case.open(options.case) as case, open_slide(_slide_of(case, options.slide), mpp=case.mpp) as slide:
        case.check_slide(slide)
        report = Report.of(Session(slide, case, threshold=left_threshold(case)))
        pictures = report.write(slide, options.out, lambda done, of: _progress(f"{done}/{of} pictures"))
    _progress("")
    return {"pictures": pictures, "file": str(options.out)}


def _import(options: argparse.Namespace) -> Answer:
    from .casefile import Case, import_cells

    with Case.open(options.case) as case:
        return {"cells": import_cells(case, options.file), "case": str(options.case)}


def _make_slide(options: argparse.Namespace) -> Answer:
    from .slides.make import make_slide

    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        left = (time.monotonic() - start) / done * (total - done)
        _progress(f"{done / total:.0%}, {left:.0f} s left")

    width, height = options.size
    try:
        made = make_slide(
            options.out, width, height, seed=options.seed, density=options.density, noise=options.noise,
            quality=options.quality, progress=tell,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; no slide was made") from None
    finally:
        _progress("")
    return {
        "slide": str(made.slide),
        "truth": str(made.truth),
        "width": width,
        "height": height,
        "nuclei": made.nuclei,
        "bytes_per_pixel": round(made.bytes_per_pixel, 4),
        "seconds": round(time.monotonic() - start, 1),
    }


def _slide_of(case: Case, given: Path | None) -> Path:
    path = given or case.slide_path
    if not os.path.exists(path):
        raise CommandError(f"The slide {path} of the case {case.path} is not there. Say where it is with --slide.")
    return path


def _progress(text: str) -> None:
    """Show `text` in place of the last progress line, for people only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _plain(answer: Answer, indent: str = "") -> list[str]:
    lines = []
    for key, value in answer.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_plain(value, indent + "  ")]
        elif isinstance(value, list) and value:
            rows = (", ".join(f"{k} {v}" for k, v in r.items()) if isinstance(r, dict) else r for r in value)
            lines += [f"{indent}{name}:", *(f"{indent}  {row}" for row in rows)]
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else "-" if value is None else value
            lines.append(f"{indent}{name}: {shown}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
