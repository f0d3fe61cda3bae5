"""Exclusive cross-entropy against the values of the authors' package and of an independent calculation (ICCV 2021)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_cervcell.learning.losses import Schedule, exclusive_cross_entropy, exclusive_cross_entropy_multiclass


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unknown_loss(logits: Tensor, *, tau: float = 0.5, sampling: float = 1.0, **options: float) -> Tensor:
    nobody = torch.zeros(logits.shape, dtype=torch.bool)
    return exclusive_cross_entropy(
        logits, torch.zeros_like(logits), nobody, tau=tau, sampling=sampling, generator=seeded(), **options
    )


@pytest.mark.parametrize("t", [0, 60, 150, 300])
def test_all_known_is_cross_entropy_bit_for_bit_at_any_epoch(t: float) -> None:
    schedule = Schedule()
    z = torch.randn(200, generator=seeded(1)) * 4
    y = (torch.rand(200, generator=seeded(2)) < 0.5).float()
    got = exclusive_cross_entropy(
        z, y, torch.ones(200, dtype=torch.bool), tau=schedule.tau(t), sampling=schedule.sampling(t), generator=seeded()
    )
    assert torch.equal(got, F.binary_cross_entropy_with_logits(z, y, reduction="none"))

    rows, labels = z.reshape(50, 4), torch.arange(50) % 4
    got = exclusive_cross_entropy_multiclass(
        rows, labels, torch.ones(50, dtype=torch.bool), tau=schedule.tau(t), sampling=schedule.sampling(t),
        generator=seeded(),
    )  # fmt: skip
    assert torch.equal(got, F.cross_entropy(rows, labels, reduction="none"))


def test_with_everything_switched_off_it_is_cross_entropy() -> None:
    p = torch.arange(0.05, 1, 0.05)
    ce = F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    torch.testing.assert_close(unknown_loss(torch.logit(p), tau=1, alpha=1, gamma=0), ce)


def test_schedules_at_the_authors_length() -> None:
    schedule = Schedule()
    tau = [schedule.tau(t) for t in (0, 25, 50, 75, 100, 150)]
    assert tau == pytest.approx([0.00335, 0.03793, 0.25, 0.46207, 0.49665, 0.49998], abs=5e-6)
    share = [schedule.sampling(t) for t in (50, 100, 150, 200)]
    assert share == pytest.approx([2.27e-5, 0.003346, 0.25, 0.496654], abs=1e-6)


@given(progress=st.floats(0, 1), epochs=st.floats(1, 1000))
@settings(max_examples=40, deadline=None)
def test_schedule_depends_on_the_share_of_the_run_only(progress: float, epochs: float) -> None:
    short, long = Schedule(epochs=epochs), Schedule()
    assert short.tau(progress * epochs) == pytest.approx(long.tau(progress * 300), abs=1e-9)
    assert short.sampling(progress * epochs) == pytest.approx(long.sampling(progress * 300), abs=1e-9)


def test_values_of_the_authors_on_probabilities() -> None:
    p = torch.arange(11) / 10
    tau = Schedule().tau(300)
    logits = torch.logit(p.clamp(1e-7, 1 - 1e-7))
    expected = [0, 0.0167, 0.0380, 0.0632, 0.0932, 0.1293, 0, 0, 0, 0, 0]
    assert unknown_loss(logits, tau=tau).tolist() == pytest.approx(expected, abs=5e-5)


def test_values_of_the_authors_on_logits() -> None:
    # their cut is on the raw logit (0.5); ours on the probability, so theirs is sigmoid(0.5)
    logits = torch.arange(-5, 6) / 5
    tau = 1 / (1 + math.exp(-0.5))
    expected = [0.0549, 0.0660, 0.0789, 0.0937, 0.1105, 0.1293, 0.1504, 0.1735, 0, 0, 0]
    assert unknown_loss(logits, tau=tau).tolist() == pytest.approx(expected, abs=5e-5)
    # and with the cut where it belongs, what is more likely a cell than not is left alone
    assert unknown_loss(logits).tolist() == pytest.approx(expected[:6] + [0] * 5, abs=5e-5)


def test_values_of_the_authors_on_two_classes() -> None:
    i = torch.arange(11)
    rows = torch.stack([i / 10, i / 5 - 1], 1)
    # their margin is on raw logits; a logit margin m of two classes is a probability margin tanh(m / 2)
    tau = math.tanh(0.5 / 2) + 1e-6
    got = exclusive_cross_entropy_multiclass(
        rows, torch.zeros(11, dtype=torch.long), torch.zeros(11, dtype=torch.bool), tau=tau, sampling=1.0,
        generator=seeded(),
    )  # fmt: skip
    expected = [0] * 5 + [0.0860, 0.0937, 0.1018, 0.1105, 0.1196, 0.1293]
    assert got.tolist() == pytest.approx(expected, abs=5e-5)


def test_an_excluded_element_has_no_loss_and_no_gradient() -> None:
    z = torch.logit(torch.tensor([0.9, 0.51, 0.999])).requires_grad_()
    loss = unknown_loss(z)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert loss.tolist() == [0, 0, 0]
    assert gradient.tolist() == [0, 0, 0]


def test_gradient_of_a_kept_element() -> None:
    p = torch.tensor([0.01, 0.1, 0.3, 0.5], dtype=torch.float64)
    z = torch.logit(p).requires_grad_()
    (gradient,) = torch.autograd.grad(unknown_loss(z).sum(), z)
    assert gradient.tolist() == pytest.approx([0.00139, 0.01739, 0.05762, 0.09977], abs=5e-6)
    closed = 0.2 * p**0.1 * (0.1 * (1 - p) * -torch.log1p(-p) + p)
    torch.testing.assert_close(gradient, closed, rtol=1e-6, atol=1e-9)


def test_the_target_of_an_unknown_element_is_not_looked_at() -> None:
    z = torch.tensor([-1.0, -0.5])
    nobody = torch.zeros(2, dtype=torch.bool)
    a, b = (
        exclusive_cross_entropy(z, y, nobody, tau=0.5, sampling=1.0, generator=None)
        for y in (torch.zeros(2), torch.ones(2))
    )
    assert torch.equal(a, b)


def test_expectation_over_sampling_is_the_share_of_the_kept_loss() -> None:
    z = torch.full((40_000,), -0.4)
    kept = unknown_loss(z[:1]).item()
    for share in (0.1, 0.5):
        assert unknown_loss(z, sampling=share).mean().item() == pytest.approx(share * kept, rel=0.05)
    assert unknown_loss(z, sampling=0.0).abs().max() == 0


def test_kept_mass_never_falls_with_time() -> None:
    schedule = Schedule()
    z = torch.randn(5000, generator=seeded(5)) * 3
    kept = [
        int((unknown_loss(z, tau=schedule.tau(t), sampling=schedule.sampling(t)) > 0).sum()) for t in range(0, 301, 10)
    ]
    assert kept == sorted(kept)
    assert kept[-1] > 0


def settled(share: float, *, exclusive: bool, sampling: float = 0.5) -> float:
    """Where the score of identical inputs settles of which a `share` is labelled positive, the rest not at all."""
    n = 4000
    y = torch.zeros(n)
    y[: round(share * n)] = 1
    known = y.bool() if exclusive else torch.ones(n, dtype=torch.bool)
    z = torch.full((), -2.0, requires_grad=True)
    generator = seeded(7)
    for _ in range(700):
        loss = exclusive_cross_entropy(z.expand(n), y, known, tau=0.5, sampling=sampling, generator=generator)
        (slope,) = torch.autograd.grad(loss.mean(), z)
        with torch.no_grad():
            z -= 6 * slope
    return torch.sigmoid(z).item()


@pytest.mark.parametrize(("share", "score"), [(0.05, 0.351), (0.08, 0.467), (0.10, 0.999), (0.30, 0.9997)])
def test_fixed_points_of_sparse_labels(share: float, score: float) -> None:
    # below about 9 % of labels the unknown still holds the score down, above it the score escapes
    assert settled(share, exclusive=True) == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize("share", [0.02, 0.04, 0.08])
def test_the_schedule_for_a_share_of_labels_is_where_the_score_just_escapes(share: float) -> None:
    schedule = Schedule()
    sampling = schedule.sampling(schedule.progress_for(share) * schedule.epochs)
    assert settled(share, exclusive=True, sampling=0.85 * sampling) > 0.9
    assert settled(share, exclusive=True, sampling=1.2 * sampling) < 0.5


@given(share=st.floats(0, 1), more=st.floats(0, 1), pull=st.floats(0.05, 0.5))
def test_more_labels_never_set_the_schedule_back(share: float, more: float, pull: float) -> None:
    schedule = Schedule()
    first, second = (schedule.progress_for(s, pull) for s in sorted((share, more)))
    assert 0 <= first <= second <= 1
    assert schedule.progress_for(share, pull) <= schedule.progress_for(share)


def test_nothing_labelled_leaves_the_unknown_alone_and_all_labelled_draws_as_much_as_ever() -> None:
    schedule = Schedule()
    none, all_ = (schedule.sampling(schedule.progress_for(share) * schedule.epochs) for share in (0.0, 1.0))
    assert none < 1e-4
    assert all_ == pytest.approx(schedule.s_max, abs=1e-3)


@pytest.mark.parametrize("share", [0.05, 0.30])
def test_cross_entropy_settles_at_the_share_of_labels(share: float) -> None:
    assert settled(share, exclusive=False) == pytest.approx(share, abs=0.01)


def multiclass(rows: Tensor) -> Tensor:
    n = len(rows)
    return exclusive_cross_entropy_multiclass(
        rows, torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.bool), tau=0.5, sampling=1.0,
        generator=seeded(),
    )  # fmt: skip


def test_multiclass_ignores_a_constant_on_all_logits() -> None:
    rows = torch.randn(100, 5, generator=seeded(9))
    torch.testing.assert_close(multiclass(rows + 3), multiclass(rows), rtol=1e-4, atol=1e-6)


def test_multiclass_ignores_a_swap_among_classes_that_do_not_matter() -> None:
    rows = torch.tensor([[1.0, 1.2, 1.1, -0.5, -2.0], [0.3, 0.2, 0.4, -1.0, -3.0]])
    torch.testing.assert_close(multiclass(rows[:, [0, 1, 2, 4, 3]]), multiclass(rows))


def test_multiclass_drops_what_it_is_sure_of_and_keeps_shapes() -> None:
    maps = torch.zeros(2, 3, 4, 5)
    maps[0, 1] = 5
    nobody = torch.zeros(2, 4, 5, dtype=torch.bool)
    loss = exclusive_cross_entropy_multiclass(
        maps, torch.full((2, 4, 5), 2), nobody, tau=0.5, sampling=1.0, generator=seeded()
    )
    assert loss.shape == (2, 4, 5)
    assert (loss[0] == 0).all()
    # trained as background (class 0), not as what `target` holds at a place that nobody looked at
    assert (loss[1] > 0).all()


def test_the_same_seed_draws_the_same_mask() -> None:
    z = torch.full((1000,), -1.0)
    nobody = torch.zeros(1000, dtype=torch.bool)

    def draw(generator: torch.Generator) -> Tensor:
        return exclusive_cross_entropy(z, z, nobody, tau=0.5, sampling=0.5, generator=generator)

    one = seeded(11)
    first, second = draw(one), draw(one)
    assert torch.equal(first, draw(seeded(11)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw(seeded(12)))


@pytest.mark.parametrize("known", [True, False])
def test_finite_at_extreme_logits(known: bool) -> None:
    z = torch.tensor([-80.0, -40.0, -17.0, 0.0, 17.0, 40.0, 80.0], requires_grad=True)
    mask = torch.full((7,), known)
    loss = exclusive_cross_entropy(z, torch.zeros(7), mask, tau=1.0, sampling=1.0, generator=None)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()


def test_multiclass_with_everything_switched_off_is_cross_entropy() -> None:
    rows = torch.randn(60, 4, generator=seeded(3))
    background, nobody = torch.zeros(60, dtype=torch.long), torch.zeros(60, dtype=torch.bool)
    got = exclusive_cross_entropy_multiclass(
        rows, background, nobody, tau=1, sampling=1, generator=None, alpha=1, gamma=0
    )
    torch.testing.assert_close(got, F.cross_entropy(rows, background, reduction="none"))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_segmentation_map_learns_from_strokes_and_leaves_likely_objects_alone(classes: int) -> None:
    """Maps of a U-Net, one channel or one a class: an unlabelled object that the net believes in is not erased."""
    maps = torch.full((1, classes, 8, 8), -2.0)
    maps[:, -1, 2:6, 2:6] = 3.0
    maps[:, 0, :2] += 1
    maps.requires_grad_()
    known = torch.zeros(1, 8, 8, dtype=torch.bool)
    known[0, 0] = True
    if classes == 1:
        zero = torch.zeros_like(maps)
        loss = exclusive_cross_entropy(maps, zero, known[:, None], tau=0.5, sampling=1.0, generator=seeded())
    else:
        label = torch.where(known, 0, -1)  # what stands where nobody looked does not matter
        loss = exclusive_cross_entropy_multiclass(maps, label, known, tau=0.5, sampling=1.0, generator=seeded())
    (push,) = torch.autograd.grad(loss.sum(), maps)
    assert (push[0, :, 2:6, 2:6] == 0).all()
    assert (push[0, :, 0].abs() > 0).all()
    assert (push[0, 0, 6:].abs() > 0).all()


def test_a_teacher_may_say_what_is_excluded() -> None:
    rows, nobody = torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)
    said = torch.tensor([0.1, 0.5, 0.9])
    several = exclusive_cross_entropy_multiclass(
        rows, torch.zeros(3, dtype=torch.long), nobody, tau=0.5, sampling=1, generator=None, confidence=said
    )
    one = exclusive_cross_entropy(
        rows[:, 0], rows[:, 0], nobody, tau=0.5, sampling=1.0, generator=None, confidence=said
    )
    assert (several > 0).tolist() == (one > 0).tolist() == [True, True, False]
