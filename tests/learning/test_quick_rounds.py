"""Quick rounds: the head alone, on features that are kept."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch

from napari_cervcell.casefile import Case, State, Verdict, open_case
from napari_cervcell.cells import centres_of
from napari_cervcell.learning import TrainingProcess, current_model, held_back, quick
from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.features import FeatureMemory, HeadAlone, Remembering
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.known import Known
from napari_cervcell.learning.promotion import judge
from napari_cervcell.learning.quick import prepare, quick_round, quick_windows
from napari_cervcell.learning.recipe import COLD, USUAL, recipe_for
from napari_cervcell.learning.seen import PATCH, Look, SeenSampler, see
from napari_cervcell.models import Model, build, config_of, predict, save_model, to_input
from napari_cervcell.review.models import import_model
from napari_cervcell.slides import Slide, sample_slide
from napari_cervcell.taxonomy import BETHESDA, CellClass

pytestmark = pytest.mark.usefixtures("few_earlier_fields")

WITH_YOLLO = {"neck": "top-down", "head": "yollo"}
"""What is different in the other network of an ensemble of FCOS and YOLLO."""


@pytest.fixture
def reviewed(sample: Slide, sample_truth: Path, quick_file: Path, tmp_path: Path) -> Path:
    """A case with labelled cells of one corner of the sample slide, and rejections beside them."""
    path = tmp_path / "reviewed.cervcell"
    rows = [line.split(",") for line in sample_truth.read_text().splitlines()]
    x, y, name = (rows[0].index(column) for column in ("x", "y", "class"))
    cells = [r for r in rows[1:] if 2000 < float(r[x]) < 3000 and 2000 < float(r[y]) < 3000][:8]
    assert len(cells) == 8
    with open_case(path, sample) as case:
        case.use_round(import_model(case, quick_file))
        for r in cells:
            box = np.array([-30, -30, 30, 30], np.float32) + np.array([float(r[x]), float(r[y])] * 2, np.float32)
            case.record([Verdict("add", box, case.taxonomy.index(r[name]))])
            case.record([Verdict("reject", box + 45, -1, detected_label=0)])
    return path


@pytest.fixture
def memory() -> FeatureMemory:
    """What the trainer's process would remember."""
    return FeatureMemory(folder=Path(platformdirs.user_cache_dir("napari-cervcell", appauthor=False)) / "features")


def pixels(seed: int, height: int = 128, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("head", "others"), [("fcos", []), ("yolof", []), ("yollo", []), ("reppoints", []), ("fcos", [WITH_YOLLO])]
)
def test_what_is_remembered_is_what_is_seen(head: str, others: list[dict[str, str]]) -> None:
    torch.manual_seed(0)
    network = build(config_of(head, "small", n_classes=3, embedding=8, ensemble_with=others)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    memory = FeatureMemory()
    remembering = Remembering(network, memory)
    x = to_input(np.stack([pixels(0), pixels(1)]))
    with torch.inference_mode():
        wanted, got, again = predict(network, x), predict(remembering, x), predict(remembering, x)
    assert len(memory) == 4  # two images, upright and turned
    for a, b, c in zip(wanted[:3], got[:3], again[:3], strict=True):
        torch.testing.assert_close(b, a, atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(c, b, atol=0, rtol=0)


def test_another_backbone_sees_for_itself_but_another_head_shares(small_model: Model) -> None:
    memory = FeatureMemory()
    x = to_input(pixels(0)[None])
    Remembering(small_model.network, memory).features(x)
    with torch.no_grad():
        small_model.network.head.cell.bias += 1
    Remembering(small_model.network, memory).features(x)
    assert len(memory) == 1
    with torch.no_grad():
        next(small_model.network.backbone.parameters()).add_(1)
    Remembering(small_model.network, memory).features(x)
    assert len(memory) == 2


def test_memory_is_bounded_and_forgets_what_was_wanted_longest_ago() -> None:
    memory = FeatureMemory(limit=1200)
    for name in "abc":
        memory.put(name, torch.zeros(100))
    assert memory.get("a") is not None
    memory.put("d", torch.zeros(100))
    assert memory.size <= memory.limit
    assert memory.get("b") is None
    assert memory.get("a") is not None


def test_a_folder_remembers_for_later_sittings_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    memory = FeatureMemory(limit=1000, folder=folder)
    for i, name in enumerate("abc"):
        memory.put(name, torch.full((100,), float(i)))
        os.utime(folder / f"{name}.npy", (i, i))
    later = FeatureMemory(limit=1000, folder=folder)
    assert later.get("a")[0] == 0  # wanted again: it stays
    later.tidy()
    assert {path.stem for path in folder.iterdir()} == {"a"}
    (folder / "a.npy").write_bytes(b"cut short")
    assert FeatureMemory(folder=folder).get("a") is None
    (tmp_path / "file").touch()
    nowhere = FeatureMemory(folder=tmp_path / "file" / "below")
    nowhere.put("a", torch.ones(1))
    nowhere.tidy()
    assert nowhere.get("a") is not None


def test_patches_bring_cells_with_the_features_that_belong_to_them(small_model: Model) -> None:
    """Upright or turned, whatever place is drawn: a cell's target lies over what the network made of that cell."""
    rgb = np.full((256, 256, 3), 230, np.uint8)
    places = np.array([[90, 100], [160, 150]])
    for x, y in places:
        rgb[y - 2 : y + 2, x - 2 : x + 2] = 0
    boxes = np.concatenate([places - 15, places + 15], 1).astype(np.float32)
    field = Field("f", rgb, 0.5, boxes, np.array([1, 2], np.int16))
    remembering = Remembering(small_model.network, FeatureMemory())
    blank = remembering.features(to_input(np.full((1, 256, 256, 3), 230, np.uint8)), 32)[0].float()
    seen = see(field, remembering, 0.5, Assignment(), rim=32)
    assert len(seen.looks) == 2
    sampler = SeenSampler([seen], 0.5, np.random.default_rng(0))
    found = 0
    for _ in range(20):
        features, targets = sampler.batch(1)
        assert features.shape[-2:] == (PATCH // 8, PATCH // 8)
        assert not targets.cell[0, :4].any()
        assert not targets.unknown[0, :, -4:].any()
        changed = (features[0, 96:].float() - blank[96:, :1, :1]).abs().amax(0) > 0.05 * blank[96:].abs().amax()
        for row, col in torch.nonzero(targets.label[0] >= 0).tolist():
            found += 1
            assert changed[max(0, row // 2 - 1) : row // 2 + 2, max(0, col // 2 - 1) : col // 2 + 2].any()
    assert found > 20


def test_the_network_is_asked_where_nobody_has_looked_or_everywhere(small_model: Model) -> None:
    box, checked = np.float32([[60, 60, 90, 90]]), np.float32([[0, 0, 64, 128]])
    field = Field("f", pixels(0, 128, 150), 0.5, box, np.zeros(1, np.int16), checked=checked, left_out=box + 40)
    remembering = Remembering(small_model.network, FeatureMemory())
    with torch.no_grad():
        wanted = torch.sigmoid(remembering(to_input(np.stack([np.pad(field.rgb, ((0, 0), (0, 10), (0, 0)))]))).cell[0])

    def asked(**where: Any) -> Look:
        return see(field, remembering, 0.5, Assignment(), turns=[False], **where).looks[0]

    assert (asked().targets.opinion == -1).all()
    assert not len(asked().targets.names)
    unknown, everywhere = (asked(ask=where).targets for where in ("unknown", "everywhere"))
    assert (unknown.opinion[unknown.known] == -1).all()
    assert (unknown.opinion[unknown.unknown] >= 0).all()
    assert (everywhere.opinion[unknown.known] >= 0).all()
    for said in (unknown, everywhere):
        assert (said.opinion[:, -2:] == -1).all()  # beside the image
        assert said.opinion[28, 28] == -1  # a held-back cell
        inside = said.opinion >= 0
        torch.testing.assert_close(said.opinion[inside], wanted[: inside.shape[0], : inside.shape[1]][inside])
        torch.testing.assert_close(said.names.sum(0), torch.ones_like(said.opinion))
    turned = see(field, remembering, 0.5, Assignment(), turns=[True], ask="everywhere").looks[0].targets
    assert torch.equal(turned.opinion.flip(-2, -1) >= 0, everywhere.opinion >= 0)


def test_a_quick_round_leaves_alone_what_nobody_has_spoken_of(
    reviewed: Path, sample: Slide, memory: FeatureMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(x, y) for x in (4000, 6000, 8000) for y in (3000, 5000)]
    patches = to_input(np.stack([patch_around(sample, x, y) for x, y in places]))

    def change(before: Model, after: Model) -> float:
        with torch.inference_mode():
            was, now = (predict(m.network, patches).cell for m in (before, after))
        return float((was - now).abs()[was > 0].mean())

    with Case.open(reviewed) as case:
        before = current_model(case)
        kept = change(before, quick_round(case, sample, memory, steps=40).model)
        monkeypatch.setattr(quick, "recipe_for", lambda model: replace(USUAL, opinion=False))
        forgot = change(before, quick_round(case, sample, memory, steps=40).model)
    assert kept < 0.7 * forgot


def test_a_model_that_began_with_nothing_goes_on_as_it_began(
    reviewed: Path, sample: Slide, quick_model: Model, memory: FeatureMemory, tmp_path: Path
) -> None:
    """No earlier field is replayed, nor judges it, and the exclusive schedule stands where its labels allow."""
    young = Model(quick_model.network, quick_model.card | {"training": {"progress": 0.1}})
    save_model(young, tmp_path / "young.safetensors")
    with Case.open(reviewed) as case:
        case.use_round(import_model(case, tmp_path / "young.safetensors"))
        outcome = quick_round(case, sample, memory, steps=2)
    assert "earlier_fields" not in outcome.metrics
    assert recipe_for(outcome.model) == COLD


def test_a_quick_round_learns_and_changes_the_head_alone(reviewed: Path, sample: Slide, memory: FeatureMemory) -> None:
    stages: list[str] = []
    with Case.open(reviewed) as case:
        before = current_model(case)
        outcome = quick_round(case, sample, memory, steps=50, on_stage=stages.append)
        seen = len(memory)
        again = quick_round(case, sample, memory, steps=50)
        annotations = case.annotations()
    assert len(memory) == seen  # the second round looks at nothing anew
    assert again.model.id == outcome.model.id
    old, new = before.network.state_dict(), outcome.model.network.state_dict()
    changed = {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])}
    assert changed == {"head"}
    learnt = ~held_back(annotations.ids)
    was, now = (judge(m, sample, annotations)[learnt] for m in (before, outcome.model))
    assert now.mean() > was.mean()
    assert (annotations.states[learnt] == State.REJECTED).any()
    assert outcome.metrics["held_back"] == int((~learnt).sum())
    assert len(outcome.metrics["gradient_balance"]) == 2
    assert all(r >= 0 for ratios in outcome.metrics["gradient_balance"] for r in ratios)
    assert isinstance(HeadAlone(outcome.model.network).head, type(before.network.head))


def apart(kinds: list[tuple[str, int]]) -> list[Verdict]:
    """Verdicts of these kinds and labels, each in a window of its own."""
    places = [(300 + 600 * (i % 17), 300 + 600 * (i // 17)) for i in range(len(kinds))]
    return [
        Verdict(kind, (x - 30, y - 30, x + 30, y + 30), label)
        for (x, y), (kind, label) in zip(places, kinds, strict=True)
    ]


def test_rejections_are_never_dropped_and_rare_classes_keep_their_cells(sample: Slide, tmp_path: Path) -> None:
    rejections, rare, common = [("reject", -1)] * 300, [("add", 5)] * 20, [("add", 0)] * 400
    with open_case(tmp_path / "large.cervcell", sample) as case:
        case.record(apart(rejections + rare + common))
        known = Known.of(case, sample)
    side = 256.0
    windows = quick_windows(known, side)
    seen = known.seen_in(windows, side, 0).annotations
    learnt = known.annotations[~held_back(known.annotations.ids)]
    assert set(learnt.ids[learnt.states == State.REJECTED]) <= set(seen.ids)
    assert set(learnt.ids[learnt.labels == 5]) <= set(seen.ids)
    # of the others the newest, and no more than can be looked at in time
    others = learnt.ids[learnt.labels == 0]
    kept = np.isin(others, seen.ids)
    assert 200 < kept.sum() < 256 < len(others)
    assert kept[-kept.sum() :].all()


def test_a_model_says_what_it_has_learnt_from_and_no_more(
    sample: Slide, quick_file: Path, memory: FeatureMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "_WINDOWS", 3)
    with open_case(tmp_path / "few.cervcell", sample) as case:
        case.use_round(import_model(case, quick_file))
        case.record(apart([("reject", -1)] * 8 + [("add", 0)] * 10))
        training = quick_round(case, sample, memory, steps=2).model.card["training"]
        said = case.annotations()
    rejections = int((~held_back(said.ids) & (said.states == State.REJECTED)).sum())
    assert (training["rejections"], training["corrections"]) == (rejections, rejections + 3)


@pytest.mark.parametrize("kind", [{"rotations": 4}, {"ensemble_with": [WITH_YOLLO]}])
def test_a_network_that_may_be_turned_and_an_ensemble_learn_a_new_class(
    kind: dict[str, object], reviewed: Path, sample: Slide, memory: FeatureMemory, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    architecture = config_of("fcos", "small", width=32, **kind)
    network = build(architecture).train()
    for norm in (part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0  # so that one look at the slide is all that a fresh network needs to see something
    with torch.no_grad():
        network(to_input(np.stack([patch_around(sample, x, 3000) for x in (2400, 3400, 4400)])))
    card = {"name": "made", "architecture": architecture, "taxonomy": BETHESDA.to_json(), "mpp": 0.8}
    card["training"] = {"progress": 0.0}
    save_model(Model(network.eval(), card), tmp_path / "made.safetensors")
    with Case.open(reviewed) as case:
        case.use_round(import_model(case, tmp_path / "made.safetensors"))
        case.taxonomy = BETHESDA.edited([*BETHESDA.classes, CellClass("AGC", "G", "#7a5cc0", "7", "high grade", 5)])
        said = case.annotations()
        cells = said[said.states != State.REJECTED][:6]
        case.record([Verdict("class", box, 6, cell=int(id_)) for box, id_ in zip(cells.boxes, cells.ids, strict=True)])
        before = current_model(case).widened(case.taxonomy)
        after = quick_round(case, sample, memory, steps=50).model
    assert after.card["architecture"] == {**architecture, "n_classes": 7}
    learnt = centres_of(cells.boxes[~held_back(cells.ids)])
    patches = to_input(np.stack([patch_around(sample, x, y) for x, y in learnt]))
    with torch.inference_mode():
        was, now = (predict(m.network, patches).classes[..., 31:33, 31:33].mean((2, 3)) for m in (before, after))
    assert len(learnt) > 2
    assert (was.softmax(1)[:, 6] < 0.05).all()
    assert now.softmax(1)[:, 6].mean() > 0.5


def patch_around(slide: Slide, x: float, y: float) -> np.ndarray:
    """uint8 (256, 256, 3) at 0.8 µm per px around level-0 (x, y)."""
    step = 0.8 / slide.mpp
    return slide.read_grid(x - 128 * step, y - 128 * step, 256, 256, step, step)


def test_preparing_leaves_nothing_to_look_at(reviewed: Path, sample: Slide, memory: FeatureMemory) -> None:
    with Case.open(reviewed) as case:
        for _ in prepare(case, sample, memory):
            pass
        seen = len(memory)
        quick_round(case, sample, memory, steps=2)
        known = memory.measure(current_model(case), [])  # in no field there is nothing to find: it was measured before
    assert seen == len(memory) > 0
    assert known["n_cells"] > 0


def test_cells_taken_back_under_the_trainer(reviewed: Path) -> None:
    """The round ends with what it had read; the next one has nothing to learn from, and says so."""
    process = TrainingProcess(reviewed, sample_slide())
    process.start(quick=True, seconds=1)
    while next(process.messages())["kind"] != "progress":
        pass
    with Case.open(reviewed) as case:
        while case.undo():
            pass
        assert not len(case.annotations())
    assert list(process.messages())[-1]["kind"] == "done"
    process.start(quick=True, seconds=1)
    last = list(process.messages())[-1]
    process.close()
    assert last["kind"] == "failed"
    assert "no corrections to learn from" in last["message"]


def test_a_trainer_that_cannot_be_started_fails_the_round_and_can_try_again(
    reviewed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    process = TrainingProcess(reviewed, sample_slide())
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        process.prepare()
        process.start(quick=True, seconds=1)
        [last] = process.poll()
        assert not process.running
    assert last["kind"] == "failed"
    assert "not enough memory" in last["message"]
    assert str(reviewed) in last["message"]
    process.start(quick=True, seconds=1)
    assert list(process.messages())[-1]["kind"] == "done"
    process.close()


def test_a_round_names_who_began_it_whoever_was_there_before(reviewed: Path) -> None:
    process = TrainingProcess(reviewed, sample_slide())
    for name in ("ada", "grace"):
        process.start(quick=True, seconds=0.5, reviewer=name)
        assert list(process.messages())[-1]["kind"] == "done"
    process.close()
    with Case.open(reviewed) as case:
        assert [r.reviewer for r in case.rounds()[1:]] == ["ada", "grace"]
        assert case.reviewed_after(case.learnt_up_to) == 0
        case.record([Verdict("reject", (0, 0, 60, 60), -1)])
        assert case.reviewed_after(case.learnt_up_to) == 1


def test_a_model_file_may_go_while_its_model_is_in_use(
    reviewed: Path, sample: Slide, quick_model: Model, memory: FeatureMemory, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(quick_model.to_bytes())
    with Case.open(reviewed) as case:
        case.use_round(import_model(case, path))
        path.unlink()
        outcome = quick_round(case, sample, memory, steps=2)
    assert outcome.model.card["parent"] == quick_model.id


limited = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs limits on a running process")


@limited
def test_a_disk_that_fills_up_in_a_round_costs_only_the_round(reviewed: Path) -> None:
    """The trainer may not make the case's files larger: as on a full disk, the model cannot be kept."""
    with Case.open(reviewed) as case:
        before = case.active_round, len(case.annotations())
    process = TrainingProcess(reviewed, sample_slide())
    process.prepare()
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    process.start(quick=True, seconds=1)
    last = list(process.messages())[-1]
    assert last["kind"] == "failed"
    assert "disk" in last["message"]
    assert "Everything saved before is safe" in last["message"]
    with Case.open(reviewed) as case:
        assert (case.active_round, len(case.annotations())) == before
        assert case.rounds()[-1].state == "failed"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    process.start(quick=True, seconds=1)
    assert list(process.messages())[-1]["kind"] == "done"
    process.close()


@limited
def test_a_trainer_that_runs_out_of_memory_says_so_and_can_try_again(reviewed: Path) -> None:
    process = TrainingProcess(reviewed, sample_slide())
    process.start(quick=True, seconds=1)
    assert list(process.messages())[-1]["kind"] == "done"
    with Case.open(reviewed) as case:
        before = case.active_round, len(case.annotations())
    used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    room = used + (4 << 20)  # for files, not for training
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    process.start(seconds=30)
    last = list(process.messages())[-1]
    assert last["kind"] == "failed"
    assert "memory" in last["message"]
    with Case.open(reviewed) as case:
        assert (case.active_round, len(case.annotations())) == before
        assert case.rounds()[-1].message == last["message"]
    if process.alive:
        resource.prlimit(process.pid, resource.RLIMIT_AS, unlimited)
    process.start(quick=True, seconds=1)
    assert list(process.messages())[-1]["kind"] == "done"
    process.close()
