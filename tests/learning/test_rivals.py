"""The rivals against published values and closed forms, and the one way in which all losses are called."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_cervcell.learning.losses import (
    KNOWN_RULES,
    UNKNOWN_RULES,
    BalancedSoftmax,
    EQLv2,
    EqualizedFocal,
    Seesaw,
    background_recalibration,
    cross_entropy,
    exclusive_cross_entropy,
    focal,
    grad_libra,
    named_loss,
)

NAMES = [f"{known}+{unknown}" for known in KNOWN_RULES for unknown in UNKNOWN_RULES]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int = 40, classes: int = 4, seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, one-hot targets (a class at most), known and unknown; a tenth is left out."""
    g = seeded(seed)
    logits = torch.randn(n, classes, generator=g) * 2
    label = torch.randint(classes + 1, (n,), generator=g)
    target = F.one_hot(label, classes + 1)[:, :classes].float()
    state = torch.rand(n, 1, generator=g).expand(n, classes)
    known, unknown = state < 0.5, state > 0.6
    return logits, torch.where(known, target, torch.zeros_like(target)), known, unknown


def test_focal_is_cross_entropy_without_focus_and_halves_at_one_half() -> None:
    z, y = torch.linspace(-4, 4, 17), torch.arange(17) % 2
    torch.testing.assert_close(focal(z, y.float(), alpha=None, gamma=0), cross_entropy(z, y.float()))
    at_half = focal(torch.zeros(2), torch.tensor([0.0, 1.0]), alpha=0.25, gamma=1)
    assert at_half.tolist() == pytest.approx([0.75 * 0.5 * math.log(2), 0.25 * 0.5 * math.log(2)])


def test_background_recalibration_values() -> None:
    p = torch.tensor([0.9, 0.94, 0.97], dtype=torch.float64)
    got = background_recalibration(torch.logit(p)).tolist()
    assert got[0] == pytest.approx(1.39882, abs=5e-6)
    assert got[1] == pytest.approx(-0.75 * 0.94**2 * math.log(0.06))
    assert got[2] == pytest.approx(-0.75 * 0.03**2 * math.log(0.97))


def test_background_recalibration_turns_the_push_around_for_a_likely_cell() -> None:
    z = torch.logit(torch.tensor([0.3, 0.9, 0.96, 0.99])).requires_grad_()
    (push,) = torch.autograd.grad(background_recalibration(z).sum(), z)
    assert (push > 0).tolist() == [True, True, False, False]


def test_eqlv2_weights() -> None:
    positive, negative = EQLv2(3).weights(torch.tensor([0.8, 100.0, 0.0]))
    assert negative.tolist() == pytest.approx([0.5, 1.0, 1 / (1 + math.exp(9.6))])
    assert positive.tolist() == pytest.approx([3.0, 1.0, 5.0], abs=1e-3)


def test_eqlv2_starts_as_cross_entropy_and_then_spares_a_drowned_class() -> None:
    rule = EQLv2(2)
    logits, target = torch.zeros(20, 2), torch.zeros(20, 2)
    target[:10, 0] = 1
    target[0, 1] = 1
    all_of_it = torch.ones(20, 2, dtype=torch.bool)
    torch.testing.assert_close(rule(logits, target, all_of_it), cross_entropy(logits, target))
    assert rule.ratio(100.0).tolist() == pytest.approx([1.0, 1 / 19])
    second = rule(logits, target, all_of_it)
    assert second[19, 1] < 0.01 * second[19, 0]
    assert second[0, 1] > 2 * second[0, 0]


def test_equalised_focal_starts_as_focal_and_then_steepens_a_drowned_class() -> None:
    rule = EqualizedFocal(2)
    logits, target = torch.full((20, 2), -1.0), torch.zeros(20, 2)
    target[:10, 0] = 1
    all_of_it = torch.ones(20, 2, dtype=torch.bool)
    torch.testing.assert_close(rule(logits, target, all_of_it), focal(logits, target))
    assert rule.ratio(1.0)[1] == 0
    # never a positive: gamma is 2 + 8, and the factor gamma / 2
    p = torch.sigmoid(torch.tensor(-1.0))
    second = rule(logits, target, all_of_it)[0, 1]
    torch.testing.assert_close(second, 0.75 * 5 * p**10 * -torch.log1p(-p))


def test_equalised_focal_collects_its_own_gradient() -> None:
    rule = EqualizedFocal(3)
    logits, target = torch.randn(30, 3, generator=seeded(4)), torch.zeros(30, 3)
    target[:4, 0] = target[4:6, 1] = 1
    counted = torch.rand(30, 3, generator=seeded(5)) < 0.8
    rule(logits, target, counted)
    before = rule.positive.clone(), rule.negative.clone()
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(rule(logits, target, counted).sum(), logits)
    torch.testing.assert_close(rule.positive - before[0], (slope.abs() * target).sum(0))
    torch.testing.assert_close(rule.negative - before[1], (slope.abs() * (1 - target)).sum(0))


def test_balanced_softmax_is_cross_entropy_on_shifted_logits() -> None:
    logits, label = torch.randn(12, 3, generator=seeded(2)), torch.arange(12) % 3
    target, everything = F.one_hot(label, 3).float(), torch.ones(12, 3, dtype=torch.bool)
    rule = BalancedSoftmax(3, counts=[900, 90, 10])
    expected = F.cross_entropy(logits + torch.tensor([0.9, 0.09, 0.01]).log(), label, reduction="none")
    torch.testing.assert_close(rule(logits, target, everything).sum(1), expected)
    even = BalancedSoftmax(3, counts=[5, 5, 5])
    torch.testing.assert_close(
        even(logits, target, everything).sum(1), F.cross_entropy(logits, label, reduction="none")
    )


def test_balanced_softmax_counts_what_it_sees_and_stands_a_class_that_never_comes() -> None:
    rule = named_loss("balanced-softmax", 3)
    target = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    known = torch.ones(3, 3, dtype=torch.bool)
    loss = rule(torch.zeros(3, 3), target, known, ~known)
    assert rule.known.counts.tolist() == [2, 1, 0]
    assert torch.isfinite(loss).all()


def test_seesaw_values() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0]])
    target, everything = torch.tensor([[1.0, 0, 0]]), torch.ones(1, 3, dtype=torch.bool)
    rule = Seesaw(3, counts=[100, 400, 10])
    p = torch.softmax(logits, 1)[0]
    # class 1 is commoner (no mitigation) but more believed in; class 2 is rarer and less believed in
    shifted = torch.tensor([0.0, 1.0 + 2 * math.log(p[1] / p[0]), -1.0 + 0.8 * math.log(10 / 100)])
    loss = rule(logits, target, everything)
    assert loss[0].tolist() == pytest.approx([-float(torch.log_softmax(shifted, 0)[0]), 0, 0], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_finite_and_zero_where_left_out(name: str) -> None:
    logits, target, known, unknown = rows()
    logits[0] = 60.0
    logits[1] = -60.0
    logits.requires_grad_()
    rule = named_loss(name, 4, generator=seeded())
    for _ in range(3):
        loss = rule(logits, target, known, unknown, 1.0)
        (push,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.shape == logits.shape
    assert torch.isfinite(loss).all()
    assert torch.isfinite(push).all()
    assert (loss >= 0).all()
    assert (loss[~known & ~unknown] == 0).all()
    if not name.startswith(("seesaw", "balanced")):  # those are for rows that hold a cell
        assert (loss[known] > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_reads_maps_as_it_reads_rows(name: str) -> None:
    logits, target, known, unknown = rows(24)
    maps = [t.T.reshape(1, 4, 4, 6) for t in (logits, target, known, unknown)]
    # sampling at 1: which elements are drawn depends on their order
    flat, map_ = (named_loss(name, 4, generator=seeded()) for _ in range(2))
    for rule in (flat, map_):
        rule.schedule = type(rule.schedule)(s_max=1.1)
    for _ in range(2):
        a, b = flat(logits, target, known, unknown), map_(*maps)
    torch.testing.assert_close(b.reshape(4, 24).T, a)


@pytest.mark.parametrize("known_rule", ["ce", "focal", "grad-libra", "grad-libra-detached", "efl", "eqlv2"])
def test_what_is_unknown_is_treated_as_the_name_says(known_rule: str) -> None:
    logits, target, known, unknown = rows()
    loss = {u: named_loss(f"{known_rule}+{u}", 4, generator=seeded(3))(logits, target, known, unknown)
            for u in UNKNOWN_RULES}  # fmt: skip
    for u in UNKNOWN_RULES:
        torch.testing.assert_close(loss[u][known], loss["negative"][known])
    assert (loss["negative"][unknown] > 0).all()
    assert (loss["ignored"][unknown] == 0).all()
    torch.testing.assert_close(loss["brl"][unknown], background_recalibration(logits)[unknown])
    expected = exclusive_cross_entropy(logits, target, ~unknown, tau=0.5, sampling=0.5, generator=seeded(3))
    torch.testing.assert_close(loss["exclusive"][unknown], expected[unknown])
    assert torch.equal(named_loss(known_rule, 4)(logits, target, known, unknown), loss["negative"])


def test_the_exclusive_schedule_is_carried_on_by_progress() -> None:
    logits = torch.full((2000, 1), -1.0)
    nobody = torch.zeros(2000, 1, dtype=torch.bool)
    rule = named_loss("grad-libra+exclusive", 1, generator=seeded())
    shares = [float((rule(logits, nobody.float(), nobody, ~nobody, p) > 0).float().mean()) for p in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0, 0.25, 0.5], abs=0.04)


def test_options_reach_the_rule_and_detaching_changes_the_gradient_alone() -> None:
    logits, target, known, unknown = rows()
    logits.requires_grad_()
    mild = named_loss("grad-libra", 4, a_pos=0.2, a_neg=0.6)(logits, target, known, unknown)
    torch.testing.assert_close(mild[known], grad_libra(logits, target, a_pos=0.2, a_neg=0.6)[known])
    both = [named_loss(n, 4)(logits, target, known, unknown) for n in ("grad-libra", "grad-libra-detached")]
    assert torch.equal(*both)
    literal, detached = (torch.autograd.grad(loss.sum(), logits)[0] for loss in both)
    assert not torch.allclose(literal, detached)
    assert (literal * detached >= 0).all()


@pytest.mark.parametrize("name", ["efl", "eqlv2", "seesaw", "balanced-softmax"])
def test_state_is_carried_over_a_restart_and_left_alone_in_evaluation(name: str) -> None:
    logits, target, known, unknown = rows()
    first, second = named_loss(name, 4), named_loss(name, 4)
    first(logits, target, known, unknown)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(logits, target, known, unknown), second(logits, target, known, unknown))
    second.eval()
    state = {k: v.clone() for k, v in second.state_dict().items()}
    second(logits, target, known, unknown)
    assert all(torch.equal(state[k], v) for k, v in second.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["nothing", "no positive", "no unknown", "no rows"])
def test_an_empty_class_or_batch_gives_no_nan(name: str, what: str) -> None:
    logits, target, known, unknown = rows()
    if what == "nothing":
        known, unknown = torch.zeros_like(known), torch.zeros_like(known)
    elif what == "no positive":
        target = torch.zeros_like(target)
    elif what == "no unknown":
        unknown = torch.zeros_like(known)
    else:
        logits, target, known, unknown = (t[:0] for t in (logits, target, known, unknown))
    rule = named_loss(name, 4, generator=seeded())
    for _ in range(2):
        assert torch.isfinite(rule(logits, target, known, unknown)).all()


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="choose one of ce, focal"):
        named_loss("focus", 4)
    with pytest.raises(ValueError, match="negative, ignored, brl, exclusive"):
        named_loss("focal+mystery", 4)
