"""The report: what reviewers confirmed, with pictures, and nothing that names a patient."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cervcell.casefile import Case, Verdict, open_case
from napari_cervcell.cli import main
from napari_cervcell.review import Report, ReviewError, Session
from napari_cervcell.slides import Slide, open_slide, sample_slide

SIDE = np.array([-30, -30, 30, 30], np.float32)


def truth() -> list[tuple[float, float, str]]:
    with sample_slide().with_name("cric_sample_points.csv").open(encoding="utf-8") as file:
        return [(float(r["x"]), float(r["y"]), r["class"]) for r in csv.DictReader(file)]


def say(case: Case, kind: str, x: float, y: float, name: str) -> None:
    label = -1 if kind == "reject" else case.taxonomy.index(name)
    case.record([Verdict(kind, SIDE + np.array([x, y, x, y], np.float32), label)])  # type: ignore[arg-type]


def test_it_shows_what_was_confirmed_the_severe_first(sample: Slide, tmp_path: Path) -> None:
    cells = truth()
    nilm, hsil = ([c for c in cells if c[2] == name] for name in ("NILM", "HSIL"))
    with open_case(tmp_path / "a.cervcell", sample, "dr. <Grün>") as case:
        for x, y, name in [*nilm[:20], *hsil[:2]]:
            say(case, "add", x, y, name)
        say(case, "reject", *nilm[30])
        case.check_region((0, 0, 2000, 1000))
        case.check_region((1000, 0, 3000, 1000))
        case.set_notes("Dry & <thick>.")
        case.set_done(True)
        pictures = Report.of(Session(sample, case)).write(sample, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert pictures == 14  # 12 of the many
    assert re.findall(r"<h3>.*?</span> (.*?)</h3>", page) == ["HSIL: 2", "NILM: 12 of 20"]
    assert "Dry &amp; &lt;thick&gt;." in page
    assert "by dr. &lt;Grün&gt;" in page
    assert f"0.188 mm², {100 * 3000 * 1000 / (sample.width * sample.height):.2g} % of the slide" in page
    row = re.search(r"</span> NILM</td><td>(\d+)</td><td>(\d+)</td>", page)
    assert row is not None
    assert row.groups() == ("20", "20")
    x, y, _ = hsil[0]
    assert f"x {x:,.0f}, y {y:,.0f}" in page
    first = Image.open(io.BytesIO(base64.b64decode(re.findall(r'base64,([^"]+)"', page)[0])))
    assert first.size == (120, 120)
    around = sample.read_scaled(x - 60, y - 60, 120, 120, 1).astype(float)  # 30 µm at 0.25 µm per px
    assert np.abs(np.asarray(first, float) - around).mean() < 6


def test_of_a_case_in_which_nobody_said_anything(sample: Slide, tmp_path: Path) -> None:
    with open_case(tmp_path / "b.cervcell", sample) as case:
        say(case, "add", *truth()[0])
        case.undo()
        assert Report.of(Session(sample, case)).write(sample, tmp_path / "b.html") == 0
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "No cell has been confirmed yet." in page
    assert "nothing yet" in page
    assert "no cell yet" in page
    assert "<h2>Notes</h2>" not in page


def test_cells_that_cannot_be_read_are_said_to_be(tmp_path: Path) -> None:
    slide = open_slide(sample_slide())
    with open_case(tmp_path / "c.cervcell", slide) as case:
        say(case, "add", *truth()[0])
        report = Report.of(Session(slide, case))
    slide.close()
    assert report.write(slide, tmp_path / "c.html") == 0
    assert "could not be read" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_to_is_named(sample: Slide, tmp_path: Path) -> None:
    with open_case(tmp_path / "d.cervcell", sample) as case:
        report = Report.of(Session(sample, case))
    with pytest.raises(ReviewError, match=r"Cannot write the report to .*d\.html.*Choose another place"):
        report.write(sample, tmp_path / "nowhere" / "d.html")


def test_the_command_line_writes_it_and_no_patient_is_named(
    labelled_svs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_slide(labelled_svs) as slide, open_case(tmp_path / "e.cervcell", slide, "ada") as case:
        say(case, "add", 300, 300, "NILM")
    assert main(["report", str(tmp_path / "e.cervcell"), "--out", str(tmp_path / "e.html")]) == 0
    assert "pictures: 1" in capsys.readouterr().out
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert "labelled.svs" in page
    with open_slide(labelled_svs) as slide:
        secrets = [str(value) for key, value in slide.properties.items() if "patient" in key.lower()]
    assert secrets
    assert not any(secret in page for secret in secrets)


def test_pictures_of_another_slide_are_refused(
    labelled_svs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, page = tmp_path / "f.cervcell", tmp_path / "f.html"
    with open_slide(labelled_svs) as slide, open_case(case, slide, "ada") as opened:
        say(opened, "add", 300, 300, "NILM")
    assert main(["report", str(case), "--slide", str(sample_slide()), "--out", str(page)]) == 1
    assert "is of the slide labelled.svs, not of cric_sample.tiff" in capsys.readouterr().err
    assert not page.exists()
