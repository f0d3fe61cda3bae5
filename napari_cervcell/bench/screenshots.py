"""Pictures of every panel and state of the window, to be looked at: ``cervcell screenshots OUT``."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from ..casefile import Case, open_case
from ..cells import Cells, GridIndex
from ..detection import Scan
from ..errors import CervcellError
from ..files import made_folder
from ..learning import TrainingProcess
from ..models import load_model, model_from_bytes
from ..review import Session
from ..slides import foreground, open_slide, sample_slide
from ..slides.make import make_slide
from ..taxonomy import BETHESDA
from ..ui.display import virtual_display
from .cells import fill_case, random_cells
from .colors import KINDS, closest, seen_with
from .windows import measure

__all__ = ["LOOKS", "take_screenshots"]

LOOKS = [
    (theme, size, scale)
    for theme in ("dark", "light")
    for size, scale in (((1600, 1000), 1), ((1280, 800), 1), ((1600, 1000), 2))
]
"""Themes, sizes of the window in px, and how many px of the screen each is."""

_SECONDS = 600.0
_ROUND = 20.0
_TOLD = 150  # cells of the sample slide on which a verdict is given, as its labels say
_LARGE, _FOCI, _FOCUS = (24_000, 18_000), 9, 1500.0  # level-0 px
_FIELD = (0.0, 0.0, 3000.0, 2200.0)  # level-0 px, where the round's model looks too


def take_screenshots(
    out: Path,
    *,
    looks: list[tuple[str, tuple[int, int], int]] = LOOKS,
    only: list[str] | None = None,
    cells: int = 300_000,
    prepared: Path | None = None,
    progress: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Save the pictures in a folder for each look, and say how far apart colour-blind readers see the class colours.

    Parameters
    ----------
    out : Path
    looks : list
        Some of :data:`LOOKS`.
    only : list of str, optional
        Only these scenes, by their names; by default all.
    cells : int
        In the scenes with very many.
    prepared : Path, optional
        Where the cases that are shown are kept, or made if they are not there yet.
    progress : callable
        Told in words how far it is.

    Raises CervcellError where a window comes to no end.
    """
    made_folder(out)
    pictures: list[str] = []
    with TemporaryDirectory() as folder:
        stage = Path(folder)
        _prepare(prepared or stage / "prepared", cells, progress)
        for theme, size, scale in looks:
            name = f"{theme}_{size[0]}x{size[1]}{f'_{100 * scale}%' if scale > 1 else ''}"
            progress(name)
            work = stage / name
            shutil.copytree(prepared or stage / "prepared", work, symlinks=True)
            (out / name).mkdir(exist_ok=True)
            job = {
                "way": name, "folder": str(work), "out": str(out / name), "theme": theme, "size": size, "only": only,
                "scale": scale,
            }  # fmt: skip
            with virtual_display(scale * size[0], scale * size[1]):
                measure(job, _SECONDS, "scenes")
            pictures += sorted(str(p) for p in (out / name).glob("*.png"))
    for kind in KINDS[1:]:
        for path in [p for p in pictures if p.endswith(("_reviewing.png", "_gallery.png")) and "dark_1600" in p]:
            if "%" not in path:
                pictures.append(str(_as_seen(Path(path), kind)))
    return {"pictures": pictures, "class_colors": {kind: _apart(kind) for kind in KINDS}}


def _apart(kind: str) -> dict[str, Any]:
    distance, i, j = closest([c.color for c in BETHESDA.classes], kind)
    return {"smallest_distance": round(distance, 1), "between": [BETHESDA[i].name, BETHESDA[j].name]}


def _as_seen(path: Path, kind: str) -> Path:
    """Save a picture as a colour-blind reader sees it, beside it."""
    rgb = np.asarray(Image.open(path).convert("RGB")) / 255
    seen = path.with_name(f"{path.stem}_{kind}.png")
    Image.fromarray(np.round(255 * seen_with(rgb, kind)).astype(np.uint8)).save(seen)
    return seen


# ---------------------------------------------------------------------------------------------- what is to be seen


def _prepare(folder: Path, cells: int, progress: Callable[[str], object]) -> None:
    """Make the slides and cases that are shown: one that is reviewed and learnt from, one with very many cells, a
    worklist."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    slide = Path(shutil.copy(sample_slide(), folder / "smear.tiff"))
    progress("finding cells")
    _review(slide, progress)
    progress("making a large slide")
    crowded = make_slide(folder / "crowded.svs", *_LARGE).slide
    with open_slide(crowded) as opened, open_case(crowded.with_name(crowded.name + ".cervcell"), opened) as case:
        fill_case(case, _with_foci(random_cells(cells, _LARGE)))
    listed = folder / "monday"
    listed.mkdir()
    reviewed = slide.with_name(slide.name + ".cervcell")
    for i in range(7):
        path = listed / f"C26-{1204 + 7 * i}.tiff"
        path.symlink_to("../smear.tiff")
        if i < 4:
            shutil.copy(reviewed, path.with_name(path.name + ".cervcell"))
        if i < 2:
            with Case.open(path.with_name(path.name + ".cervcell"), "ada") as case:
                case.note_opened()
                case.set_done(True)
    with open_slide(slide) as opened, open_case(listed / "C26-1232.tiff.cervcell", opened) as case:
        run = case.start_run("shipped", "shipped", "slide")
        with Case.open(reviewed) as known:
            case.write_tile(run, 0, 0, 1 << 20, known.detections().cells)
        case.finish_run(run)
    (listed / "gone.svs").symlink_to("nowhere.svs")


def _with_foci(cells: Cells) -> Cells:
    """Let the abnormal among `cells` lie together in some places, as they do."""
    foci = np.random.default_rng(1).uniform(0, 1, (_FOCI, 2)) * _LARGE
    away = np.min([np.hypot(*(cells.centres - focus).T) for focus in foci], axis=0) > _FOCUS
    return Cells(cells.boxes, np.where(away, 0, cells.labels), cells.scores, cells.class_scores)


def _review(slide: Path, progress: Callable[[str], object]) -> None:
    """Find the cells of the sample slide, say what its labels say of some, and train a round on that."""
    path = slide.with_name(slide.name + ".cervcell")
    with open_slide(slide) as opened, open_case(path, opened, "ada") as case:
        model = load_model()
        for _ in Scan(opened, model, foreground=foreground(opened), case=case).run():
            pass
        with sample_slide().with_name("cric_sample_points.csv").open(newline="", encoding="utf-8") as file:
            labelled = [(float(r["x"]), float(r["y"]), r["class"]) for r in csv.DictReader(file)]
        known = GridIndex(np.array([place[:2] for place in labelled], np.float32))
        session = Session(None, case, threshold=model.threshold)
        for _ in range(_TOLD):
            row = session.next()
            if row is None:
                break
            x, y = session.index.points[row].tolist()
            there = known.nearest(x, y, 40.0)
            if there is None:
                session.reject()
            else:
                session.set_class(case.taxonomy.index(labelled[there][2]))
        session.check_region((2600.0, 1000.0, 3400.0, 1600.0))
    progress("training a round")
    process = TrainingProcess(path, slide)
    process.start(seconds=_ROUND, reviewer="ada")
    end = [message for message in process.messages() if message["kind"] in ("done", "failed")]
    process.close()
    if not end or end[-1]["kind"] == "failed":
        raise CervcellError(f"The round of training failed: {end[-1]['message'] if end else 'it ended early'}")
    with open_slide(slide) as opened, Case.open(path) as case:
        for _ in Scan(opened, model_from_bytes(case.round_model(end[-1]["round"])), region=_FIELD, case=case).run():
            pass
