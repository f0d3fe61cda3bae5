"""One real round on a real case, in the process that the window uses and without it."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cervcell.casefile import Case, CaseError, State, Verdict, open_case
from napari_cervcell.cells import centres_of
from napari_cervcell.detection import Scan
from napari_cervcell.learning import RoundError, TrainingProcess, current_model, held_back
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.features import FeatureMemory
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.known import Known, case_fields
from napari_cervcell.learning.losses import Schedule, pull_at_half
from napari_cervcell.learning.objective import A_POS
from napari_cervcell.learning.promotion import compared, is_worse, judge
from napari_cervcell.learning.quick import quick_round
from napari_cervcell.learning.recipe import COLD, USUAL, recipe_for
from napari_cervcell.learning.rounds import most_steps, objective_of, standing, train_round
from napari_cervcell.models import (
    HEADS,
    Model,
    ModelError,
    build,
    config_of,
    model_from_bytes,
    predict,
    save_model,
    to_input,
)
from napari_cervcell.review.models import import_model
from napari_cervcell.slides import Slide, sample_slide
from napari_cervcell.taxonomy import BETHESDA, CellClass, Taxonomy

REGION = (1500.0, 1500.0, 2600.0, 2600.0)
ONE_TILE = (2000.0, 2000.0, 3000.0, 3000.0)
SEVEN = BETHESDA.edited([*BETHESDA.classes, CellClass("AGC", "G", "#7a5cc0", "7", "high grade", 5)])


@pytest.fixture(scope="module")
def found(sample: Slide, quick_file: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A case file with detections of the model that it uses, to copy."""
    path = tmp_path_factory.mktemp("case") / "found.cervcell"
    with open_case(path, sample) as case:
        case.use_round(import_model(case, quick_file))
        for _ in Scan(sample, current_model(case), region=REGION, case=case).run():
            pass
    return path.read_bytes()


@pytest.fixture
def reviewed(found: bytes, sample: Slide, tmp_path: Path) -> Path:
    """A case in which a reviewer accepted some cells, rejected some and gave two a class far from the model's."""
    path = tmp_path / "reviewed.cervcell"
    path.write_bytes(found)
    with open_case(path, sample) as case:
        review(case)
    return path


def review(case: Case) -> None:
    cells = case.detections().cells
    order = np.argsort(-cells.scores)
    for n, i in enumerate(order[:6]):
        label = int(cells.labels[i])
        said = (label + 3) % 6 if n < 2 else label
        kind = "accept" if said == label else "class"
        case.record([Verdict(kind, cells.boxes[i], said, detected_label=label)])
    for i in order[-6:]:
        case.record([Verdict("reject", cells.boxes[i], -1, detected_label=int(cells.labels[i]))])


def test_a_round_goes_on_with_what_its_model_has_learnt_with(shipped_model: Model, small_model: Model) -> None:
    rgb, cell = np.zeros((400, 400, 3), np.uint8), np.array([[40, 40, 60, 60]], np.float32)
    checked = np.array([[0, 0, 200, 100]], np.float32)  # an eighth of the field
    field = Field("made", rgb, 0.4, cell, np.zeros(1, np.int16), checked=checked)
    assert recipe_for(shipped_model) == USUAL
    assert recipe_for(small_model) == USUAL  # nothing is said of it: it has been trained to the end
    assert objective_of([field], shipped_model, 0, USUAL).margin == shipped_model.card["training"]["margin"] > 1
    assert objective_of([field], small_model, 0, USUAL).margin == 1
    assert standing([field], USUAL) == 1
    small_model.card["training"] = {"progress": 0.0}
    assert recipe_for(small_model) == COLD
    damped = replace(COLD, grad_libra=True)
    expected = Schedule().progress_for(1 / 8, pull_at_half(A_POS))
    assert standing([field], damped) == pytest.approx(expected, abs=0.02)
    assert standing([field], COLD) > standing([field], damped)  # cross-entropy outweighs more unknown cells
    unchecked = replace(field, checked=np.zeros((0, 4), np.float32))
    with pytest.raises(RoundError, match="what is no cell"):
        standing([unchecked], COLD)
    assert standing([unchecked], USUAL) == 1
    standing([replace(unchecked, rejected=cell)], COLD)
    standing([unchecked], replace(COLD, loss="ce"))  # for which all that nobody looked at is none
    cold = objective_of([field], small_model, 0, COLD)
    assert not cold.grad_libra
    assert cold.rejected_weight == 1 < objective_of([field], small_model, 0, USUAL).rejected_weight


@pytest.fixture
def young(sample: Slide, quick_model: Model, tmp_path: Path) -> Iterator[Case]:
    """A case with six cells and a checked place, and a model in use that began with nothing."""
    model = Model(copy.deepcopy(quick_model.network), quick_model.card | {"training": {"progress": 0.0}})
    save_model(model, tmp_path / "young.safetensors")
    with open_case(tmp_path / "young.cervcell", sample) as case:
        case.use_round(import_model(case, tmp_path / "young.safetensors"))
        for _ in Scan(sample, model, region=ONE_TILE, case=case).run():
            pass
        cells = case.detections().cells
        best = np.argsort(-cells.scores)[:6]
        case.record([Verdict("accept", cells.boxes[i], int(cells.labels[i])) for i in best])
        x, y = cells.boxes[best[0], 2:].tolist()
        case.check_region((x, y, x + 20, y + 20))
        yield case


def test_after_a_start_from_nothing_a_round_ends_before_it_knows_a_handful_of_cells_by_heart(
    young: Case, sample: Slide
) -> None:
    taken: list[int] = []
    train_round(young, sample, steps=1000, on_step=lambda step: taken.append(step.step))
    learnt = int((~held_back(young.annotations().ids)).sum())
    assert 0 < learnt < 7
    assert len(taken) == 10 * learnt
    fields = case_fields(sample, Known.of(young, sample), 0.5)
    assert most_steps(fields, USUAL) > 1_000_000  # earlier fields beside them keep a model from that
    assert most_steps([], COLD) == 20  # a checked region without cells teaches, too


def test_after_a_start_from_nothing_every_round_begins_anew(young: Case, sample: Slide) -> None:
    def weights() -> dict[str, torch.Tensor]:
        return current_model(young).network.state_dict()

    def round_(steps: int) -> Model:
        model = train_round(young, sample, steps=steps).model
        number = young.start_round(current_model(young).id, {})
        young.finish_round(number, "promoted", {}, model.to_bytes(), model.id)
        return model

    fresh = weights()
    round_(20)
    before, first = weights(), current_model(young)
    assert any(not torch.equal(before[name], fresh[name]) for name in fresh)
    round_(3)
    second = round_(20)  # nothing has been said since, so that it learns what the first one did
    assert second.card["parent"] != first.card["parent"]
    torch.testing.assert_close(weights(), before)


def test_held_back_is_a_stable_share_that_depends_on_the_cell_alone() -> None:
    ids = np.arange(1, 5001)
    back = held_back(ids)
    assert 0.17 < back.mean() < 0.23
    np.testing.assert_array_equal(held_back(ids[::-1])[::-1], back)
    assert not len(held_back(np.zeros(0, np.int64)))


def test_fields_know_what_the_reviewer_said_and_nothing_else(reviewed: Path, sample: Slide) -> None:
    with Case.open(reviewed) as case:
        annotations, known = case.annotations(), Known.of(case, sample)
    fields = case_fields(sample, known, 0.5)
    back = held_back(annotations.ids)
    rejected = annotations.states == State.REJECTED
    assert {tuple(np.round(b).tolist()) for f in fields for b in _on_slide(f)} == {
        tuple(np.round(b).tolist()) for b in annotations.boxes[~back & ~rejected]
    }
    assert all(not len(f.checked) for f in fields)
    assert sum(len(f.left_out) for f in fields) >= back.sum()


def test_what_a_model_took_for_cells_in_a_checked_region_is_a_hard_negative(reviewed: Path, sample: Slide) -> None:
    with Case.open(reviewed) as case:
        assert not len(Known.of(case, sample).mined)
        cells, said = case.detections().cells, case.annotations()
        likely = cells[cells.scores >= 0.25]
        x1, y1 = likely.centres.min(0) - 50
        x2, y2 = likely.centres.max(0) + np.array([50, -200])
        case.check_region((float(x1), float(y1), float(x2), float(y2)))
        known = Known.of(case, sample)
        inside = ((likely.centres > (x1, y1)) & (likely.centres < (x2, y2))).all(1)
        apart = np.linalg.norm(likely.centres[:, None] - centres_of(said.boxes), axis=2).min(1) * sample.mpp >= 15
        np.testing.assert_array_equal(known.mined, likely.boxes[inside & apart])
        assert 0 < len(known.mined) < inside.sum()
        rejected = np.concatenate([f.rejected for f in case_fields(sample, known, 0.5)])
        before = int((~held_back(said.ids) & (said.states == State.REJECTED)).sum())
        assert len(rejected) >= before + len(known.mined)
        case.record([Verdict("accept", known.mined[0], 0)])  # so it was one after all
        assert len(Known.of(case, sample).mined) < len(known.mined)


def _on_slide(field: object) -> np.ndarray:
    column, row = map(int, field.name.split("-"))  # type: ignore[attr-defined]
    side = 1280
    return field.boxes * 2 + np.array([column, row, column, row]) * side - side / 16  # type: ignore[attr-defined]


def test_a_cell_of_a_class_that_was_merged_is_judged_as_what_it_counts_as_now(
    sample: Slide, shipped_model: Model, sample_cells: dict[str, np.ndarray], tmp_path: Path
) -> None:
    lsil, hsil = BETHESDA.index("LSIL"), BETHESDA.index("HSIL")
    merged = BETHESDA.edited([replace(c, into=hsil) if i == lsil else c for i, c in enumerate(BETHESDA.classes)])
    with open_case(tmp_path / "merged.cervcell", sample, taxonomy=merged) as case:
        case.record([Verdict("add", box, hsil) for box in sample_cells["LSIL"][:20]])
        now = case.annotations()
    before = judge(shipped_model, sample, replace(now, labels=np.full_like(now.labels, lsil)))
    assert before.max() > 0.7
    assert (judge(shipped_model, sample, now, merged) >= before - 1e-6).all()


@pytest.mark.usefixtures("few_earlier_fields")
def test_a_round_learns_what_it_was_told_and_is_judged(sample: Slide, shipped_model: Model, tmp_path: Path) -> None:
    with open_case(tmp_path / "shipped.cervcell", sample) as case:
        for _ in Scan(sample, shipped_model, region=ONE_TILE, case=case).run():
            pass
        review(case)
        before = current_model(case)
        steps: list[float] = []
        outcome = train_round(case, sample, steps=12, on_step=lambda s: steps.append(float(s.losses.total.detach())))
        annotations = case.annotations()
    assert len(steps) == 12
    assert np.isfinite(steps).all()
    assert outcome.model.id != before.id
    learnt = ~held_back(annotations.ids)
    was, now = (judge(m, sample, annotations)[learnt] for m in (before, outcome.model))
    differed = was < 0.5  # where model and reviewer did not agree, the model comes nearer
    assert differed.any()
    assert now[differed].mean() > was[differed].mean()
    rejected = annotations.states[learnt] == State.REJECTED
    assert now[rejected].mean() > was[rejected].mean()
    assert outcome.metrics["held_back"] == int((~learnt).sum())
    kept = annotations[~learnt]
    figures = outcome.metrics["classes"] | {"rejected": outcome.metrics["rejections"]}
    for name, of in figures.items():
        rejections = kept.states == State.REJECTED
        is_it = rejections if name == "rejected" else ~rejections & (kept.labels == BETHESDA.index(name))
        assert of["held_back"] == is_it.sum() > 0
        assert of["before"] == pytest.approx(judge(before, sample, kept[is_it]).mean(), abs=1e-4)
        assert of["after"] == pytest.approx(judge(outcome.model, sample, kept[is_it]).mean(), abs=1e-4)
    assert sum(of["held_back"] for of in figures.values()) == len(kept)
    worse = outcome.metrics["earlier_fields"]["before"]["ap"] - outcome.metrics["earlier_fields"]["after"]["ap"]
    assert outcome.promoted == ("not worse" in outcome.message)
    assert worse <= 0.03 or not outcome.promoted


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ([-0.9], True),  # 95 % before, 5 % after
        ([-0.9, 0.0], True),
        ([-0.03], False),  # so much is nothing for one or two
        ([-0.08, 0.04], False),
        ([0.4, 0.1], False),
        ([-0.3, -0.3, -0.3, 0, 0, 0, 0, 0, 0], True),
        ([-0.3, 0.3, -0.2, 0.25, -0.1, 0, 0, 0, 0], False),
        ([-0.03] * 40, True),
        ([np.nan] * 6, True),  # it says nothing any more
        ([np.nan], True),
    ],
)
def test_a_model_that_agrees_clearly_less_is_worse_however_few_tell(change: list[float], worse: bool) -> None:
    assert is_worse(np.array(change, np.float32), USUAL.doubt) == worse


def test_after_a_start_from_nothing_only_clear_evidence_counts_against_a_round() -> None:
    rng = np.random.default_rng(0)
    change = rng.normal(0, 1, 60)
    change = ((change - change.mean()) / change.std(ddof=1) * 0.15).astype(np.float32)  # standard error: 0.019
    assert is_worse(change - 0.04, USUAL.doubt)
    assert not is_worse(change - 0.04, COLD.doubt)
    assert is_worse(change - 0.08, COLD.doubt)


def test_a_worse_model_is_not_taken_on_the_word_of_one_correction(
    sample: Slide, quick_model: Model, tmp_path: Path
) -> None:
    """It calls no cell a cell; of what was held back there is one, which the model before knew."""
    blind = Model(copy.deepcopy(quick_model.network), quick_model.card)
    with torch.no_grad():
        blind.network.head.cell.bias -= 10
    with open_case(tmp_path / "one.cervcell", sample) as case:
        for _ in Scan(sample, quick_model, region=ONE_TILE, case=case).run():
            pass
        cells = case.detections().cells
        best = np.argsort(-cells.scores)[:12]
        case.record([Verdict("accept", cells.boxes[i], int(cells.labels[i])) for i in best])
        said = case.annotations()
    one = said[np.flatnonzero(held_back(said.ids))[:1]]
    outcome = compared(blind, quick_model, sample, one, [], evaluate)
    assert not outcome.promoted
    assert "agreement with 1 held-back correction (too few to tell for certain)" in outcome.message
    assert compared(quick_model, quick_model, sample, one, [], evaluate).promoted


def test_without_corrections_there_is_nothing_to_learn(found: bytes, sample: Slide, tmp_path: Path) -> None:
    path = tmp_path / "bare.cervcell"
    path.write_bytes(found)
    with Case.open(path) as case, pytest.raises(RoundError, match="no corrections to learn from"):
        train_round(case, sample, seconds=1)


def test_a_slide_that_is_not_the_cases_is_refused(sample: Slide, other_slide: Slide, tmp_path: Path) -> None:
    with open_case(tmp_path / "one.cervcell", sample) as case:
        case.record([Verdict("add", (300, 300, 360, 360), 0)])
        for teach in (train_round, partial(quick_round, memory=FeatureMemory())):
            with pytest.raises(CaseError, match=r"one\.cervcell is of the slide cric_sample\.tiff, not of other\.tiff"):
                teach(case, other_slide, steps=1)


def test_a_model_of_another_taxonomy_is_refused(sample: Slide, tmp_path: Path) -> None:
    two = Taxonomy("Blood", BETHESDA.classes[:2])
    with (
        open_case(tmp_path / "blood.cervcell", sample, taxonomy=two) as case,
        pytest.raises(ModelError, match="names the classes NILM, ASC-US, LSIL"),
    ):
        current_model(case)


@pytest.mark.usefixtures("few_earlier_fields")
def test_a_new_class_is_learnt_from_a_handful_of_cells(reviewed: Path, sample: Slide) -> None:
    with Case.open(reviewed) as case:
        case.use_round(None)
        case.taxonomy = SEVEN
        cells = case.detections().cells
        given = case.record([Verdict("class", cells.boxes[i], 6) for i in np.argsort(-cells.scores)[6:14]])
        said = case.annotations()
        learnt = said[np.isin(said.ids, given) & ~held_back(said.ids)]
        assert not judge(current_model(case), sample, learnt).any()  # a model that does not know it never says it
        model = quick_round(case, sample, FeatureMemory(), steps=45).model
    assert model.taxonomy.names == (*BETHESDA.names, "AGC")
    # chosen at random, so that they have nothing in common but the name
    assert (judge(model, sample, learnt) > 0.5).mean() >= 0.5
    with torch.inference_mode():
        dense = predict(model.network, to_input(np.full((1, 256, 256, 3), 230, np.uint8)))
    assert dense.classes.shape[1] == 7


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        *((head, {}) for head in HEADS),
        *((head, {"rotations": 4}) for head in HEADS if head != "reppoints"),
        ("fcos", {"ensemble_with": [{"neck": "top-down", "head": "yollo"}]}),
    ],
)
def test_a_model_that_can_learn_more_classes_says_the_same_of_the_others(head: str, kind: dict[str, object]) -> None:
    torch.manual_seed(0)
    architecture = config_of(head, "small", **kind)
    card = {"name": "made", "architecture": architecture, "taxonomy": BETHESDA.to_json(), "mpp": 0.5}
    model = Model(build(architecture).eval(), card)
    wider = model.widened(SEVEN)
    x = to_input(np.random.default_rng(0).integers(0, 255, (1, 128, 128, 3), dtype=np.uint8))
    with torch.inference_mode():
        narrow, wide = model.network(x), wider.network(x)
    torch.testing.assert_close(wide.classes[:, :6], narrow.classes)
    torch.testing.assert_close(wide.cell, narrow.cell)
    assert (wide.classes.argmax(1) < 6).all()


def test_the_process_leaves_a_round_with_its_model_in_the_case(reviewed: Path) -> None:
    process = TrainingProcess(reviewed, sample_slide())
    process.start(seconds=5)
    messages = list(process.messages())
    process.close()
    kinds = [m["kind"] for m in messages]
    assert kinds[0] == "started"
    assert "progress" in kinds
    assert kinds[-1] == "done"
    with Case.open(reviewed) as case:
        round_ = case.rounds()[-1]
        assert (round_.state, round_.message) == (messages[-1]["state"], messages[-1]["message"])
        model = model_from_bytes(case.round_model(round_.id))
        assert model.name.endswith("round 2")
        assert set(round_.metrics["classes"]) <= set(BETHESDA.names)
        assert model.card["metrics"] == round_.metrics  # an exported model says so too
        if round_.state == "promoted":
            assert current_model(case).id == model.id


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_a_round_that_ends_early_costs_nothing(reviewed: Path, how: str) -> None:
    with Case.open(reviewed) as case:
        before = current_model(case).id, len(case.annotations())
    process = TrainingProcess(reviewed, sample_slide())
    process.start(quick=True, seconds=60)
    for message in process.messages():
        if message["kind"] == "progress":
            break
    if how == "cancelled":
        process.cancel()
    else:
        os.kill(process.pid, signal.SIGKILL)
    last = list(process.messages())[-1]
    assert last["kind"] == ("cancelled" if how == "cancelled" else "failed")
    with Case.open(reviewed) as case:
        assert (current_model(case).id, len(case.annotations())) == before
        assert case.rounds()[-1].state == ("cancelled" if how == "cancelled" else "failed")
    process.start(quick=True, seconds=1)  # and can be begun again
    assert list(process.messages())[-1]["kind"] == "done"
    process.close()


def test_a_slide_that_is_gone_is_named(reviewed: Path, tmp_path: Path) -> None:
    process = TrainingProcess(reviewed, tmp_path / "gone.svs")
    process.start(seconds=1)
    last = list(process.messages())[-1]
    process.close()
    assert last["kind"] == "failed"
    assert "gone.svs" in last["message"]
