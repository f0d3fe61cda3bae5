"""The same work without a window: ``cervcell info``, ``detect``, ``train``, ``evaluate`` and so on.

Every command prints a few plain lines, or with ``--json`` one JSON object; what goes wrong is one line on standard
error and a non-zero exit. What a command needs is imported in its own function, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import CervcellError

if TYPE_CHECKING:
    from .casefile import Case
    from .slides import Slide

__all__ = ["main"]

Answer = dict[str, Any]


class CommandError(CervcellError):
    """The command line asks for something that cannot be done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.run(options)
    except CervcellError as error:
        print(f"cervcell: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"cervcell: {stop or 'stopped; what was done so far is kept'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    if answer is not None:
        if options.json:
            print(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            print("\n".join(_plain(answer)))
    return 0


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

    detect = command("detect", _detect, "Find cells on a slide and write them to its case file.")
    detect.add_argument("slide", type=Path)
    detect.add_argument("--case", type=Path, required=True, help="case file, made where there is none")
    detect.add_argument("--model", type=Path, help="model file; by default the case's own, else the shipped one")
    detect.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    detect.add_argument("--region", type=float, nargs=4, metavar=("X", "Y", "W", "H"), help="only here, level-0 px")
    detect.add_argument("--mpp", type=float, help="µm per pixel, for a slide that does not say")

    review = command("review", _review, "Open a slide in napari for review.")
    review.add_argument("slide", type=Path)
    review.add_argument("--case", type=Path, help="case file; by default beside the slide")

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
    train.add_argument("--seconds", type=float, default=60.0, help="time to train (default: %(default)s)")

    evaluate = command("evaluate", _evaluate, "Measure a model on labelled fields.")
    evaluate.add_argument("--model", type=Path, help="model file (default: the shipped one)")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="folder with images/ and images.csv, points.csv or a COCO file"
    )
    evaluate.add_argument(
        "--split", nargs=2, metavar=("FILE.csv", "NAME"), help="only images whose column 'split' in FILE.csv is NAME"
    )

    export = command("export", _export, "Write the cells of a case to a file.")
    export.add_argument("case", type=Path)
    export.add_argument("--format", choices=["geojson", "coco", "csv"], required=True)
    export.add_argument("--out", type=Path, required=True)

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
    streaming = command(
        "streaming",
        _bench_streaming,
        "Measure how fast a slide is read and shown, beside every other way that is installed.",
        kinds,
    )
    streaming.epilog = (
        "Two slides to measure on: 'cervcell make-slide smooth.svs --size 100000 100000', and the same with "
        "'--noise 10 --quality 90' for one that is hard to decode. Peers: pip install 'napari-cervcell[bench]'."
    )
    streaming.add_argument("slide", type=Path)
    streaming.add_argument("--only", nargs="+", metavar="FIGURE", help="only these figures, e.g. read_vs_decode")
    streaming.add_argument("--repeats", type=int, default=5, help="of everything, in turn (default: %(default)s)")
    streaming.add_argument(
        "--seconds", type=float, default=60.0, help="to pan while memory is watched (default: %(default)s)"
    )
    streaming.add_argument("--steps", type=int, help="of the recorded trace in the window (default: all)")

    overlay = command(
        "overlay", _bench_overlay, "Measure what very many cells cost in the window, beside napari's own layers.", kinds
    )
    overlay.add_argument("--cells", type=int, default=1_000_000, help="how many (default: %(default)s)")
    overlay.add_argument("--slide", type=Path, help="on which slide; by default one is made for it")
    overlay.add_argument("--repeats", type=int, default=5, help="of everything, in turn (default: %(default)s)")

    demo = command("demo", _demo, "Open the sample slide; without a display, do a scripted sitting on it.")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="where the sitting's files go (default: %(default)s)"
    )
    demo.add_argument("--scripted", action="store_true", help="do the scripted sitting also where there is a display")
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
    from .casefile import open_case
    from .detection import Scan
    from .learning import current_model
    from .models import load_model
    from .slides import foreground, open_slide

    start = time.monotonic()
    with open_slide(options.slide, mpp=options.mpp) as slide, open_case(options.case, slide) as case:
        _agree_on_mpp(slide, case)
        model = load_model(options.model) if options.model else current_model(case)
        _same_classes(model.taxonomy.names, case, str(options.model or model.name))
        region = None
        if options.region:
            x, y, w, h = options.region
            if w <= 0 or h <= 0:
                raise CommandError("The region's width and height must be above 0.")
            region = (x, y, x + w, y + h)
        scan = Scan(slide, model, region=region, foreground=foreground(slide), device=options.device, case=case)
        unreadable = 0
        for step in scan.run():
            unreadable = step.unreadable
            _progress(f"{step.done}/{step.total} tiles, {step.found} cells, {step.seconds_left:.0f} s left")
        _progress("")
        cells = case.detections().cells
        if region:
            x, y = cells.centres.T
            cells = cells[(x >= region[0]) & (x < region[2]) & (y >= region[1]) & (y < region[3])]
        shown = cells[cells.scores >= model.threshold]
        return {
            "cells": {name: int((shown.labels == i).sum()) for i, name in enumerate(case.taxonomy.names)},
            "threshold": model.threshold,
            "tiles": scan.total,
            "unreadable_tiles": unreadable,
            "device": scan.device,
            "model": model.name,
            "seconds": round(time.monotonic() - start, 2),
            "case": str(options.case),
        }


def _review(options: argparse.Namespace) -> None:
    from .slides import open_slide
    from .ui.app import launch

    open_slide(options.slide).close()  # a slide that cannot be opened is refused before a window appears
    launch(options.slide, options.case)


def _annotate(options: argparse.Namespace) -> Answer:
    from .casefile import Case
    from .review import Session, read_verdicts

    verdicts = read_verdicts(options.table)
    with Case.open(options.case, options.reviewer) as case:
        return asdict(Session(None, case).import_verdicts(verdicts))


def _train(options: argparse.Namespace) -> Answer:
    from .casefile import Case
    from .learning import TrainingProcess
    from .models import load_model, model_from_bytes, save_model

    start = time.monotonic()
    with Case.open(options.case) as case:
        process = TrainingProcess(options.case, _slide_of(case, options.slide), seconds=options.seconds)
        process.start()
        end: Answer = {}
        try:
            for message in process.messages():
                if message["kind"] == "progress":
                    _progress(
                        f"step {message['step']}, loss {message['loss']:.3f}, {message['seconds_left']:.0f} s left"
                    )
                elif message["kind"] in ("done", "failed"):
                    end = message
        finally:
            process.cancel()
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
    from .learning import evaluate, read_fields, split_names
    from .models import load_model

    model = load_model(options.model)
    names = split_names(*options.split) if options.split else None
    fields = read_fields(options.data, model.taxonomy, names)
    answer = evaluate(model, fields, lambda done, total: _progress(f"{done}/{total} fields"))
    _progress("")
    return answer


def _export(options: argparse.Namespace) -> Answer:
    from .casefile import Case, export_case

    with Case.open(options.case) as case:
        return {"cells": export_case(case, options.out, options.format), "file": str(options.out)}


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


def _bench_streaming(options: argparse.Namespace) -> Answer:
    from .bench.figures import in_words
    from .bench.streaming import FIGURES, Streaming

    unknown = set(options.only or ()) - set(FIGURES)
    if unknown:
        raise CommandError(f"There is no figure {', '.join(sorted(unknown))}. There are {', '.join(FIGURES)}.")
    if options.repeats < 1:
        raise CommandError("The number of repeats must be above 0.")
    bench = Streaming(
        options.slide, options.only or FIGURES, options.repeats, options.seconds, options.steps, _progress
    )
    try:
        figures = bench.run()
    finally:
        _progress("")
    if options.json:
        return figures
    return {name: in_words(said) for name, said in figures.items()} | {"measured with": bench.notes}


def _bench_overlay(options: argparse.Namespace) -> Answer:
    from .bench.figures import in_words
    from .bench.overlay import Overlaid

    if options.repeats < 1 or options.cells < 1:
        raise CommandError("The numbers of cells and of repeats must be above 0.")
    bench = Overlaid(options.cells, options.slide, options.repeats, _progress)
    try:
        figures = bench.run()
    finally:
        _progress("")
    if options.json:
        return figures
    return {name: in_words(said) for name, said in figures.items()} | {"measured with": bench.notes}


def _demo(options: argparse.Namespace) -> Answer | None:
    import os

    if not options.scripted and (
        sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        from .slides import sample_slide
        from .ui.app import launch

        launch(sample_slide(), detect=True)
        return None
    from .ui.sitting import run_on_virtual_display

    return run_on_virtual_display(options.out)


def _slide_of(case: Case, given: Path | None) -> Path:
    path = given or case.slide_path
    if not path.exists():
        raise CommandError(f"The slide {path} of the case {case.path} is not there. Say where it is with --slide.")
    return path


def _agree_on_mpp(slide: Slide, case: Case) -> None:
    """Where only one of slide and case knows the µm per pixel, tell the other."""
    if slide.mpp is None and case.mpp is not None:
        slide.mpp = case.mpp
    elif case.mpp is None and slide.mpp is not None:
        case.mpp = slide.mpp
    if slide.mpp is None:
        raise CommandError(f"{slide.path} does not say its µm per pixel. Give it once with --mpp (40x is about 0.25).")


def _same_classes(names: tuple[str, ...], case: Case, model: str) -> None:
    if names != case.taxonomy.names:
        raise CommandError(
            f"The model {model} names the classes {', '.join(names)}, but the case {case.path} uses "
            f"{', '.join(case.taxonomy.names)}. Choose a model of the same classes, or another case file."
        )


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
