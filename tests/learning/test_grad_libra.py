"""Grad-Libra against the worked values of the paper (Liu et al., MICCAI 2022) and of an independent calculation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_cervcell.learning.losses import (
    GradientBalance,
    grad_libra,
    gradient_balance,
    gradient_weight,
    pull_at_half,
)

# the example of the paper's figure 1
LOGITS = [1.06, -3.62, -1.46]
TARGET = torch.tensor([0.0, 0.0, 1.0])


def weight(g: float, a: float) -> float:
    return float(gradient_weight(torch.tensor(g, dtype=torch.float64), a))


def loss_and_gradient(values: list[float], target: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    logits = torch.tensor(values, requires_grad=True)
    loss = grad_libra(logits, target, **options)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), gradient


@pytest.mark.parametrize(
    ("g", "a", "expected"),
    [(1, 0.2, 0.83171), (1, 0.4, 0.66341), (1, 0.6, 0.49512), (1, 0.8, 0.32682), (1, 1.0, 0.15853),
     (0.5, 0.8, 0.11646), (0, 0.8, 0.0)],
)  # fmt: skip
def test_weight_values(g: float, a: float, expected: float) -> None:
    assert weight(g, a) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("a", [0.2, 0.6, 0.8, 1.0])
def test_weight_is_increasing_convex_and_no_flatter_than_one_minus_a(a: float) -> None:
    g = torch.linspace(0, 1, 201, dtype=torch.float64, requires_grad=True)
    f = gradient_weight(g, a)
    (slope,) = torch.autograd.grad(f.sum(), g)
    assert (f >= 0).all()
    assert (f.diff() > 0).all()
    assert (slope.diff() > 0).all()
    assert torch.allclose(slope, 1 - a * torch.cos(g.detach()))
    assert (slope >= 1 - a - 1e-12).all()


def test_weight_falls_with_a() -> None:
    assert [weight(0.7, a) for a in (0.0, 0.2, 0.6, 1.0)] == sorted(weight(0.7, a) for a in (0, 0.2, 0.6, 1))[::-1]


@pytest.mark.parametrize(("a", "ratio"), [(0.0, 100), (0.2, 104), (0.4, 110.6), (0.6, 123.8), (0.8, 163.4)])
def test_hard_over_easy_ratio_rises_with_a(a: float, ratio: float) -> None:
    assert weight(1, a) / weight(0.01, a) == pytest.approx(ratio, rel=1e-3)


def test_example_of_the_paper() -> None:
    p = torch.sigmoid(torch.tensor(LOGITS))
    g = (p - TARGET).abs()
    assert p.tolist() == pytest.approx([0.743, 0.026, 0.188], abs=5e-4)
    assert gradient_weight(g, 0.8).tolist() == pytest.approx([0.20167, 0.00522, 0.23126], abs=1e-5)
    loss, _ = loss_and_gradient(LOGITS, TARGET, a_pos=0.8, a_neg=0.8)
    assert loss.tolist() == pytest.approx([0.27377, 0.00014, 0.38593], abs=1e-5)
    assert loss.sum().item() == pytest.approx(0.65983, abs=1e-5)


@pytest.mark.parametrize(("a_pos", "a_neg", "total"), [(0.2, 0.6, 1.56986), (0.0, 0.0, 2.36318)])
def test_example_with_other_dials(a_pos: float, a_neg: float, total: float) -> None:
    loss, _ = loss_and_gradient(LOGITS, TARGET, a_pos=a_pos, a_neg=a_neg)
    assert loss.sum().item() == pytest.approx(total, abs=1e-5)


def test_without_a_it_is_focal_loss_with_gamma_one_and_never_plain_cross_entropy() -> None:
    ce = F.binary_cross_entropy_with_logits(torch.tensor(LOGITS), TARGET, reduction="none")
    assert ce.sum().item() == pytest.approx(3.05274, abs=1e-5)
    loss, _ = loss_and_gradient(LOGITS, TARGET, a_pos=0.0, a_neg=0.0)
    torch.testing.assert_close(loss, (1 - torch.exp(-ce)) * ce)
    for a in (0.0, 0.2, 0.6, 0.8, 1.0):
        assert not torch.allclose(loss_and_gradient(LOGITS, TARGET, a_pos=a, a_neg=a)[0], ce, rtol=1e-2)


@pytest.mark.parametrize(
    ("detached", "expected"),
    [(True, [0.14978, 0.000136, -0.18767]), (False, [0.25632, 0.000271, -0.30235])],
)
def test_gradients_of_the_example(detached: bool, expected: list[float]) -> None:
    _, gradient = loss_and_gradient(LOGITS, TARGET, detach_weight=detached)
    assert gradient.tolist() == pytest.approx(expected, abs=1e-5)


@given(z=st.floats(-6, 6), a=st.floats(0.05, 1))
@settings(max_examples=40, deadline=None)
def test_gradient_has_the_closed_form(z: float, a: float) -> None:
    p = 1 / (1 + math.exp(-z))
    f = weight(p, a)
    slope = 1 - a * math.cos(p)
    _, negative = loss_and_gradient([z], torch.zeros(1), a_neg=a)
    assert negative.item() == pytest.approx(p * (f + slope * (1 - p) * -math.log1p(-p)), rel=1e-3, abs=1e-6)
    f, slope = weight(1 - p, a), 1 - a * math.cos(1 - p)
    _, positive = loss_and_gradient([z], torch.ones(1), a_pos=a)
    assert positive.item() == pytest.approx(-(1 - p) * (f + slope * p * -math.log(p)), rel=1e-3, abs=1e-6)


def test_positives_and_negatives_mirror_each_other() -> None:
    z = torch.linspace(-5, 5, 41)
    torch.testing.assert_close(grad_libra(z, torch.ones(41)), grad_libra(-z, torch.zeros(41)))


def test_each_element_stands_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(60, 4, generator=generator)
    y = (torch.rand(60, 4, generator=generator) < 0.2).float()
    whole = grad_libra(z, y)
    order = torch.randperm(60, generator=generator)
    torch.testing.assert_close(grad_libra(z[order], y[order]), whole[order])
    torch.testing.assert_close(grad_libra(z[7:8], y[7:8]), whole[7:8])


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_finite_at_extreme_logits(target: float) -> None:
    loss, gradient = loss_and_gradient([-80.0, -20.0, 0.0, 20.0, 80.0], torch.full((5,), target))
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
    assert (loss >= 0).all()


@pytest.mark.parametrize(("share", "settled"), [(0.3, 0.41), (0.1, 0.27)])
def test_wrong_negatives_are_softened_but_not_solved(share: float, settled: float) -> None:
    """Identical inputs, a `share` of them called positive, the rest wrongly negative."""
    z = torch.zeros((), requires_grad=True)
    y = torch.tensor([1.0, 0.0])
    mass = torch.tensor([share, 1 - share])
    for _ in range(600):
        (slope,) = torch.autograd.grad((grad_libra(z.expand(2), y) * mass).sum(), z)
        with torch.no_grad():
            z -= 5 * slope
    assert torch.sigmoid(z).item() == pytest.approx(settled, abs=0.01)


def test_balance_is_one_where_pushes_are_equal_and_small_where_negatives_drown_the_class() -> None:
    logits = torch.zeros(10, 2)
    target = torch.zeros(10, 2)
    target[:5, 0] = 1
    target[0, 1] = 1
    assert gradient_balance(logits, target).tolist() == pytest.approx([1.0, 1 / 9], rel=1e-5)


def test_balance_of_a_class_without_positives_is_zero() -> None:
    assert gradient_balance(torch.zeros(4, 1), torch.zeros(4, 1)).tolist() == [0.0]


def test_the_meter_adds_up_iterations_and_starts_afresh() -> None:
    meter = GradientBalance(2)
    logits, target = torch.zeros(4, 2), torch.tensor([[1.0, 0], [1, 0], [0, 0], [0, 0]])
    for _ in range(3):
        meter.add(logits, target)
    assert meter.ratios() == pytest.approx([1.0, 0.0])
    counted = torch.tensor([[True, True], [False, True], [True, True], [False, True]])
    meter.reset()
    meter.add(logits, target, counted)
    assert meter.ratios() == pytest.approx([1.0, 0.0])
    meter.reset()
    assert meter.ratios() == [0.0, 0.0]


def test_a_drawn_negative_pushes_as_hard_as_all_that_it_stands_for() -> None:
    drawn, target = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])
    meter = GradientBalance(1)
    meter.add(drawn, target, torch.tensor([[1.0], [58.0]]))
    assert meter.ratios() == pytest.approx([1 / 58])
    everywhere = torch.cat([drawn[:1], drawn[1:].expand(58, 1)])
    assert meter.ratios() == pytest.approx(
        gradient_balance(everywhere, (torch.arange(59)[:, None] < 1).float()).tolist()
    )


def test_the_meter_reads_maps_as_it_reads_rows() -> None:
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(2, 3, 4, 5, generator=generator)
    target = (torch.rand(2, 3, 4, 5, generator=generator) < 0.3).float()
    rows = [t.permute(0, 2, 3, 1).reshape(-1, 3) for t in (maps, target)]
    torch.testing.assert_close(gradient_balance(maps, target), gradient_balance(*rows))


@pytest.mark.parametrize("a", [0.0, 0.2, 0.6, 0.8, 1.0])
def test_how_a_positive_pulls_at_half_is_the_slope_of_the_loss_there(a: float) -> None:
    _, gradient = loss_and_gradient([0.0], torch.ones(1), a_pos=a)
    assert pull_at_half(a) == pytest.approx(-gradient.item(), abs=1e-6)
