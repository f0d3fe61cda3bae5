"""The objective as a whole: known is taught, unknown is not turned into negative, nothing ends in NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.fields import DataError, Field
from napari_cervcell.learning.fitting import FitSettings, Step, fit
from napari_cervcell.learning.losses import grad_libra
from napari_cervcell.learning.objective import LossName, Objective
from napari_cervcell.learning.targets import Targets, assign, collate
from napari_cervcell.models import DEFAULT_CONFIG, STRIDE, Network, build
from napari_cervcell.models.heads import Dense

NONE = np.zeros((0, 4), np.float32)
SIZE = 96
WHOLE = np.array([[0, 0, SIZE, SIZE]], np.float32)
CELL = np.array([[34, 34, 64, 64]], np.float32)


def objective() -> Objective:
    return Objective(torch.ones(6), torch.Generator().manual_seed(0))


def targets(cells: np.ndarray = NONE, rejected: np.ndarray = NONE, checked: np.ndarray = NONE) -> Targets:
    labels = np.full(len(cells), 2, np.int16)
    return collate([assign((SIZE, SIZE), cells, labels, rejected, checked, WHOLE[0], NONE)])


def dense(logit: float) -> Dense:
    side = SIZE // STRIDE
    return Dense(
        torch.full((1, side, side), logit, requires_grad=True),
        torch.zeros(1, 6, side, side, requires_grad=True),
        torch.full((1, 4, side, side), 15.0, requires_grad=True),
    )


@pytest.mark.parametrize("logit", [0.1, 2.0, 6.0])
def test_a_likely_cell_that_nobody_looked_at_is_never_pushed_down(logit: float) -> None:
    said = dense(logit)
    objective()(said, targets(CELL), progress=1.0).total.backward()
    unknown = targets(CELL).unknown
    assert said.cell.grad is not None
    assert (said.cell.grad[unknown] == 0).all()


def test_the_rim_of_a_likely_cell_is_no_background_either() -> None:
    said = dense(-1.0)
    middle = SIZE // STRIDE // 2
    with torch.no_grad():
        said.cell[0, middle, middle] = 2.0
    objective()(said, targets(), progress=1.0).total.backward()
    assert said.cell.grad is not None
    push = said.cell.grad[0]
    assert (push[middle - 3 : middle + 4, middle - 3 : middle + 4] == 0).all()
    assert (push[0] > 0).any()


def test_unlikely_unknowns_are_gently_background_once_the_schedule_has_come() -> None:
    pushes = []
    for progress in (0.0, 1.0):
        said = dense(-1.0)
        objective()(said, targets(), progress).total.backward()
        assert said.cell.grad is not None
        pushes.append(float(said.cell.grad.sum()))
    known = dense(-1.0)
    objective()(known, targets(checked=WHOLE), 1.0).total.backward()
    assert pushes[0] == pytest.approx(0, abs=1e-3)
    assert pushes[1] > 0


def test_what_is_checked_takes_grad_libra_whatever_the_schedule() -> None:
    said, known = dense(1.0), targets(CELL, checked=WHOLE)
    rule = objective()
    expected = (
        grad_libra(said.cell, known.cell, a_pos=rule.a_pos, a_neg=rule.a_neg)[known.known].sum() / known.cell.sum()
    )
    for progress in (0.0, 0.5, 1.0):
        losses = objective()(said, known, progress)
        assert losses.known == pytest.approx(float(expected.detach()), rel=1e-5)
        assert losses.unknown == 0


def test_what_is_known_can_take_cross_entropy_while_the_unknown_stays_excluded() -> None:
    said, target = dense(0.5), targets(CELL)
    plain = objective()
    plain.grad_libra = False
    plain(said, target, progress=1.0).total.backward()
    assert said.cell.grad is not None
    known, sure = target.known & ~target.rejected, torch.sigmoid(torch.tensor(0.5))
    expected = (sure - target.cell[known]) / target.cell.sum()
    torch.testing.assert_close(said.cell.grad[known], expected)
    assert (said.cell.grad[target.unknown] == 0).all()


@pytest.mark.parametrize(("loss", "is_background"), [("ce", True), ("focal", True), ("ignore", False)])
def test_rivals_take_unknown_for_background_or_leave_it_alone(loss: LossName, is_background: bool) -> None:
    rival = objective()
    rival.loss = loss
    said = dense(2.0)  # a likely cell everywhere
    rival(said, targets(CELL), progress=1.0).total.backward()
    unknown = targets(CELL).unknown
    assert said.cell.grad is not None
    push = said.cell.grad[unknown]
    assert bool((push > 0).all() if is_background else (push == 0).all())
    assert (said.cell.grad[targets(CELL).cell > 0] < 0).all()


def test_background_recalibration_is_focal_but_for_what_is_all_but_certain() -> None:
    pushes = {}
    names: tuple[LossName, ...] = ("focal", "brl")
    for name in names:
        for logit in (2.0, 4.0):  # 0.88 and 0.98
            rival, said = objective(), dense(logit)
            rival.loss = name
            rival(said, targets(CELL), progress=1.0).total.backward()
            assert said.cell.grad is not None
            pushes[name, logit] = said.cell.grad
    torch.testing.assert_close(pushes["brl", 2.0], pushes["focal", 2.0])
    unknown = targets(CELL).unknown
    assert (pushes["focal", 4.0][unknown] > 0).all()
    assert (pushes["brl", 4.0][unknown] < 0).all()


def test_a_rejection_is_pushed_down_from_the_first_step() -> None:
    said, known = dense(2.0), targets(rejected=CELL)
    objective()(said, known, 0.0).total.backward()
    assert said.cell.grad is not None
    assert (said.cell.grad[known.rejected] > 0).all()


def test_a_confirmed_cell_is_pulled_up_and_named() -> None:
    said, known = dense(-2.0), targets(CELL)
    objective()(said, known, 0.0).total.backward()
    at = known.cell == 1
    assert said.cell.grad is not None
    assert said.classes.grad is not None
    assert (said.cell.grad[at] < 0).all()
    row, column = (int(v[0]) for v in at[0].nonzero(as_tuple=True))
    towards = said.classes.grad[0, :, row, column]
    assert towards[2] < 0
    assert (towards[[0, 1, 3, 4, 5]] > 0).all()


def test_a_teacher_is_followed_where_it_was_asked_and_nowhere_else() -> None:
    said, known = dense(0.0), targets(CELL)
    without = objective()(said, known, 0.0)
    assert without.taught == 0
    opinion = known.opinion.clone()
    opinion[0, 0, :3] = torch.tensor([0.9, 0.5, 0.1])
    losses = objective()(said, known._replace(opinion=opinion), 0.0)
    (push,) = torch.autograd.grad(losses.total - without.total, said.cell)
    assert push[0, 0, 0] < 0
    assert push[0, 0, 1] == pytest.approx(0, abs=1e-7)
    assert push[0, 0, 2] > 0
    assert (push != 0).sum() == 2
    agreed = known._replace(opinion=torch.full_like(opinion, 0.5))
    assert objective()(said, agreed, 0.0).taught == pytest.approx(0, abs=1e-6)


def test_a_teacher_that_names_cells_is_followed_as_far_as_it_believes_in_one() -> None:
    """A class that it does not know is neither drawn up nor down beside those that it knows."""
    said, known = dense(0.0), targets(CELL)
    opinion = torch.full_like(known.opinion, -1)
    opinion[0, 0, :3] = torch.tensor([0.9, 0.1, 0.0])
    names = torch.zeros(1, 5, *opinion.shape[1:])
    names[0, 3] = 1
    told = known._replace(opinion=opinion, names=names)
    silent = objective()(said, told._replace(names=names[:, :0]), 0.0)
    losses = objective()(said, told, 0.0)
    assert losses.taught - silent.taught == pytest.approx(4 * math.log(5), rel=1e-5)
    (push,) = torch.autograd.grad(losses.total - silent.total, said.classes)
    assert push[0, 3, 0, 0] == pytest.approx(9 * float(push[0, 3, 0, 1]), rel=1e-4)
    assert push[0, 3, 0, 0] < 0 < push[0, 0, 0, 0]
    assert not push[0, 5].any()
    assert not push[0, :, 0, 2:].any()


@pytest.mark.parametrize("margin", [0.0, 1.0, 1.5])
def test_naming_is_balanced_by_the_shares_to_the_power_of_the_margin(margin: float) -> None:
    rule = objective()
    rule.margin, rule.counts = margin, torch.tensor([80.0, 4, 10, 2, 3, 1])
    losses = rule(dense(0.0), targets(CELL), 1.0)
    share = rule.counts / rule.counts.sum()  # the batch's own cells among them
    expected = -torch.log_softmax(margin * share.log(), 0)[2]
    assert losses.naming == pytest.approx(float(expected), rel=1e-5)


def test_the_shares_of_classes_follow_what_is_drawn() -> None:
    rule = objective()
    for _ in range(300):
        rule(dense(0.0), targets(CELL), 1.0)
    assert rule.counts[2] / rule.counts.sum() > 0.9
    assert (rule.counts > 0).all()


def test_the_balance_of_gradients_is_told_at_the_end_of_every_epoch_and_begun_anew() -> None:
    rng = np.random.default_rng(0)
    field = Field("f", rng.integers(0, 255, (160, 160, 3), np.uint8), 0.5, CELL, np.full(1, 2, np.int16))
    sampler = CropSampler([field], Crops(64, 0.5), rng)
    told: list[tuple[float, ...] | None] = []
    rule = objective()
    settings = FitSettings(steps=5, batch=4, epoch=2)
    fit(build(DEFAULT_CONFIG), sampler, rule, settings, lambda step, _: told.append(step.balance))
    assert [balance is not None for balance in told] == [False, True, False, True, False]
    first, second = (np.array(balance) for balance in told if balance)
    assert first[2] > 1  # the class that is there is only pushed up
    assert (np.delete(first, 2) == 0).all()  # and the others only down
    assert second.shape == first.shape == (6,)


BAD_CELLS = {
    "one cell": CELL,
    "a cell twice": np.concatenate([CELL, CELL]),
    "a cell outside the field": CELL + 1000,
    "a cell nowhere": np.concatenate([CELL, np.full((1, 4), np.nan, np.float32)]),
}


@pytest.mark.parametrize("what", ["nothing known", "only rejections", "nothing unknown", *BAD_CELLS])
def test_little_or_bad_knowledge_gives_a_finite_model(what: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
    cells = BAD_CELLS.get(what, NONE)
    rejected = CELL if what == "only rejections" else NONE
    checked = np.array([[0, 0, 160, 160]], np.float32) if what == "nothing unknown" else NONE
    field = Field("f", rgb, 0.5, cells, np.zeros(len(cells), np.int16), rejected, checked)
    sampler = CropSampler([field], Crops(64, 0.5), np.random.default_rng(0))
    network = fit(build(DEFAULT_CONFIG), sampler, objective(), FitSettings(steps=3, batch=2))
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_an_image_that_may_hold_no_numbers_is_refused() -> None:
    field = Field("f", np.full((160, 160, 3), np.nan, np.float32), 0.5, CELL, np.zeros(1, np.int16))
    with pytest.raises(DataError, match="image of f holds float32"):
        CropSampler([field], Crops(64, 0.5), np.random.default_rng(0))


def test_a_class_that_the_model_does_not_name_is_refused() -> None:
    rule = Objective(torch.ones(2), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="class 2, but the model names 2"):
        rule(dense(0.0), targets(CELL), 1.0)


def test_a_loss_that_is_no_number_ends_the_fit() -> None:
    field = Field("f", np.zeros((128, 128, 3), np.uint8), 0.5, CELL, np.zeros(1, np.int16))
    network = build(DEFAULT_CONFIG)
    with torch.no_grad():
        network.head.cell.weight.fill_(float("nan"))
    sampler = CropSampler([field], Crops(64, 0.5), np.random.default_rng(0))
    with pytest.raises(FloatingPointError):
        fit(network, sampler, objective(), FitSettings(steps=2, batch=2))


def test_weights_that_the_last_step_has_spoilt_end_the_fit() -> None:
    field = Field("f", np.full((160, 160, 3), 220, np.uint8), 0.5, CELL, np.zeros(1, np.int16))
    sampler = CropSampler([field], Crops(64, 0.5), np.random.default_rng(0))
    with pytest.raises(FloatingPointError, match="weights"):
        fit(build(DEFAULT_CONFIG), sampler, objective(), FitSettings(steps=1, batch=2, rate=float("inf")))


def test_a_fit_is_the_same_with_the_same_seeds() -> None:
    def once() -> list[float]:
        torch.manual_seed(0)
        rgb = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
        field = Field("f", rgb, 0.5, CELL, np.zeros(1, np.int16))
        sampler = CropSampler([field], Crops(64, 0.5), np.random.default_rng(1))
        losses: list[float] = []

        def note(step: Step, _: Network) -> None:
            losses.append(float(step.losses.total.detach()))

        fit(build(DEFAULT_CONFIG), sampler, objective(), FitSettings(steps=3, batch=2), note)
        return losses

    assert once() == once()


def test_looks_of_one_class_are_drawn_together_and_those_of_two_apart() -> None:
    torch.manual_seed(0)
    cells = np.array([[4, 4, 34, 34], [60, 4, 90, 34], [4, 60, 34, 90], [60, 60, 90, 90]], np.float32)
    known = collate([assign((SIZE, SIZE), cells, np.array([0, 0, 1, 1], np.int16), NONE, NONE, WHOLE[0], NONE)])
    embedding = torch.randn(1, 16, SIZE // STRIDE // 2, SIZE // STRIDE // 2, requires_grad=True)
    middle = ((cells[:, :2] + cells[:, 2:]) / 4 / STRIDE).astype(int)

    def likeness() -> tuple[float, float]:
        """Mean cosine of pairs of one class, and of two."""
        f = torch.nn.functional.normalize(embedding.detach()[0, :, middle[:, 1], middle[:, 0]], dim=0)
        cosine = f.T @ f
        return float(cosine[0, 1] + cosine[2, 3]) / 2, float(cosine[:2, 2:].mean())

    before = likeness()
    optimiser = torch.optim.SGD([embedding], lr=1000.0)
    for _ in range(40):
        optimiser.zero_grad()
        objective()(dense(0.0)._replace(embedding=embedding), known, 1.0).total.backward()
        optimiser.step()
    after = likeness()
    assert after[0] > max(before[0], 0.8)
    assert after[1] < min(before[1], 0.2)


def test_one_class_alone_teaches_no_looks() -> None:
    said = dense(0.0)._replace(embedding=torch.randn(1, 16, SIZE // STRIDE, SIZE // STRIDE, requires_grad=True))
    assert objective()(said, targets(CELL), 1.0).looks == 0


def test_a_first_guess_of_a_box_learns_too() -> None:
    first = torch.full((1, 4, SIZE // STRIDE, SIZE // STRIDE), 25.0, requires_grad=True)
    losses = objective()(dense(0.0)._replace(first_sides=first), targets(CELL), 1.0)
    losses.total.backward()
    assert first.grad is not None
    at = targets(CELL).cell[0] == 1
    assert (first.grad[0, :, at] > 0).all(), "a box too large is pushed to shrink"
    assert (first.grad[0, :, ~at] == 0).all()


def test_a_small_cell_pulls_as_hard_as_a_large_one() -> None:
    small, large = np.array([8, 8, 20, 20], np.float32), np.array([36, 36, 92, 92], np.float32)
    labels = np.array([2, 2], np.int16)
    at = assign((SIZE, SIZE), np.stack([small, large]), labels, NONE, NONE, WHOLE[0], NONE)
    said, rule = dense(0.0), objective()
    rule.loss = "ignore"
    rule(said, collate([at]), progress=1.0).total.backward()
    assert said.cell.grad is not None
    assert said.classes.grad is not None
    cell = at.cell.bool()
    of_small = torch.zeros_like(cell)
    of_small[:6, :6] = True
    few, many = cell & of_small, cell & ~of_small
    assert int(few.sum()) < int(many.sum()) / 5
    for push in (said.cell.grad[0], said.classes.grad[0, 2]):  # whether it is a cell, and which
        assert push[few].sum() < 0
        torch.testing.assert_close(push[few].sum(), push[many].sum())
