"""Dual alignment: labels lead, pseudo-labels follow, and the memory outlives the session."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_cervcell.learning.alignment import DualAlignment, accept, prototype_loss, proxy_loss, ramp
from napari_cervcell.learning.prototypes import PrototypeBank, prototypes

CLASSES = 3
BACKGROUND, MIMIC = 3, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def module(seed: int = 0, **options: float) -> DualAlignment:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DualAlignment(8, CLASSES, width=16, **options)  # type: ignore[arg-type]


def batch(seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = seeded(seed)
    probability = torch.softmax(12 * torch.rand(12, CLASSES + 2, generator=g), 1)
    return torch.randn(10, 8, generator=g), torch.arange(10) % 5, torch.randn(12, 8, generator=g), probability


def gradients(aligned: Tensor, of: DualAlignment) -> list[Tensor]:
    parameters = list(of.parameters())
    return [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(parameters, torch.autograd.grad(aligned, parameters, allow_unused=True), strict=True)
    ]


def test_proxy_loss_values() -> None:
    proxies = torch.eye(2)
    f = torch.tensor([[3.0, 0.0]])
    label = torch.tensor([0])
    assert proxy_loss(f, proxies, label, 1).item() == pytest.approx(0.31326, abs=5e-6)
    assert proxy_loss(f, proxies, label, 10).item() == pytest.approx(4.54e-5, rel=2e-3)


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_the_length_of_an_embedding_does_not_matter(factor: float) -> None:
    f, proxies, label = (
        torch.randn(6, 4, generator=seeded()),
        torch.randn(3, 4, generator=seeded(1)),
        torch.arange(6) % 3,
    )
    torch.testing.assert_close(proxy_loss(factor * f, proxies, label, 12), proxy_loss(f, proxies, label, 12))


@pytest.mark.parametrize("how", ["no unlabelled", "before the ramp"])
def test_without_unlabelled_data_the_total_is_the_supervised_loss_exactly(how: str) -> None:
    rule = module()
    labelled, label, unlabelled, probability = batch()
    if how == "no unlabelled":
        unlabelled, probability = unlabelled[:0], probability[:0]
    aligned = rule(labelled, label, unlabelled, probability, 1.0 if how == "no unlabelled" else 0.0)
    expected = proxy_loss(rule.embed(labelled), rule.proxies, label, rule.scale).mean()
    assert aligned.total.item() == expected.item()
    assert aligned[2:] == (0, 0, 0)


def test_with_an_unreachable_threshold_unlabelled_images_teach_nothing() -> None:
    labelled, label, unlabelled, probability = batch()
    unlabelled.requires_grad_()
    aligned = module(theta=1.01)(labelled, label, unlabelled, probability, 1.0)
    assert aligned[2:] == (0, 0, 0)
    assert torch.autograd.grad(aligned.total, unlabelled, allow_unused=True) == (None,)
    taught = module(theta=0.5)(labelled, label, unlabelled, probability, 1.0)
    assert taught.accepted > 0
    assert taught.proposal > 0
    assert torch.autograd.grad(taught.total, unlabelled)[0].abs().sum() > 0


def test_pseudo_labels_move_features_and_never_proxies() -> None:
    rule = module(theta=0.0)
    _, _, unlabelled, probability = batch()
    aligned = rule(torch.zeros(0, 8), torch.zeros(0, dtype=torch.long), unlabelled, probability, 1.0)
    by_name = dict(zip([n for n, _ in rule.named_parameters()], gradients(aligned.total, rule), strict=True))
    assert (by_name["proxies"] == 0).all()
    assert by_name["embed.0.weight"].abs().sum() > 0


def test_only_sure_proposals_are_taken_and_no_more_background_than_cells() -> None:
    probability = torch.tensor(
        [[0.95, 0.05, 0], [0.2, 0.8, 0], [0.0, 0.1, 0.9], [0, 0.01, 0.99], [0, 0.05, 0.95], [0.03, 0.97, 0]]
    )
    label, taken = accept(probability, 0.9, background=2)
    assert label.tolist() == [0, 1, 2, 2, 2, 1]
    assert taken.tolist() == [True, False, False, True, True, True]
    assert not accept(probability[2:5], 0.9, background=2)[1].any()


def test_the_bank_keeps_the_last_labelled_prototypes_in_order() -> None:
    bank = PrototypeBank(2, 4, keep=3)
    mu = torch.randn(5, 2, 4, generator=seeded(), requires_grad=True)
    for i in range(5):
        bank.push(mu[i], torch.tensor([True, i == 1]))
        assert len(bank.of(0)) <= 3
    assert torch.equal(bank.of(0), mu[2:, 0].detach())
    assert torch.equal(bank.of(1), mu[1:2, 1].detach())
    assert not bank.of(0).requires_grad
    vectors, label = bank.all()
    assert torch.equal(vectors, torch.cat([bank.of(0), bank.of(1)]))
    assert label.tolist() == [0, 0, 0, 1]


def test_the_bank_holds_labelled_prototypes_alone_and_only_training_adds_to_it() -> None:
    rule = module(theta=0.0)
    labelled, label, unlabelled, probability = batch()
    only_one = label == 1
    rule.eval()
    rule(labelled[only_one], label[only_one], unlabelled, probability, 1.0)
    assert rule.bank.length.sum() == 0
    rule.train()
    rule(labelled[only_one], label[only_one], unlabelled, probability, 1.0)
    assert rule.bank.length.tolist() == [0, 1, 0, 0, 0]
    expected, _ = prototypes(rule.embed(labelled[only_one]), label[only_one], 5)
    torch.testing.assert_close(rule.bank.of(1)[0], expected[1])


def test_a_new_session_starts_with_the_memory_of_the_last() -> None:
    rule = module(theta=0.5)
    for seed in range(3):
        rule(*batch(seed), 1.0)
    saved = safetensors.torch.save(rule.state_dict())
    again = module(seed=9, theta=0.5)
    again.load_state_dict(safetensors.torch.load(saved))
    torch.testing.assert_close(again(*batch(7), 1.0).total, rule(*batch(7), 1.0).total, rtol=0, atol=0)


def test_a_prototype_suffers_less_from_wrong_labels_than_its_proposals() -> None:
    """Flip ever more pseudo-labels: the prototype's angle to the truth grows slower than the mean proposal's."""
    g = seeded(3)
    truth = torch.eye(16)[:5]
    cells = F.normalize(truth[:, None] + 0.1 * torch.randn(5, 400, 16, generator=g), dim=2)
    of_prototype, of_proposals = [], []
    for share in (0.0, 0.1, 0.2, 0.3, 0.4):
        wrong = round(100 * share)  # of a hundred, evenly from the other classes
        members = torch.cat([cells[0, : 4 * (100 - wrong)], *cells[1:, :wrong]])
        mu, _ = prototypes(members, torch.zeros(400, dtype=torch.long), 1)
        of_prototype.append(float(torch.arccos(mu[0] @ truth[0])))
        of_proposals.append(float(torch.arccos(members @ truth[0]).mean()))
    assert all(a < b for a, b in zip(of_prototype, of_proposals, strict=True))
    growth = [[b - a for a, b in pairwise(angles)] for angles in (of_prototype, of_proposals)]
    assert all(a < b for a, b in zip(*growth, strict=True))


def test_a_prototype_of_one_is_that_one_and_of_none_is_not_there() -> None:
    f = torch.tensor([[3.0, 4.0]])
    mu, present = prototypes(f, torch.tensor([1]), 3)
    assert mu[1].tolist() == pytest.approx([0.6, 0.8])
    assert present.tolist() == [False, True, False]
    assert torch.isfinite(mu).all()


def test_a_class_without_a_counterpart_adds_nothing() -> None:
    mu, anchors = torch.eye(3), torch.eye(3)[:2]
    anchor_label = torch.tensor([0, 1])
    both = prototype_loss(mu, torch.tensor([True, True, False]), anchors, anchor_label, 0.1)
    one_unmatched = prototype_loss(mu, torch.tensor([True, True, True]), anchors, anchor_label, 0.1)
    assert both == one_unmatched
    none = prototype_loss(mu, torch.tensor([False, False, True]), anchors, anchor_label, 0.1)
    assert none == 0
    assert prototype_loss(mu, torch.ones(3, dtype=torch.bool), anchors[:0], anchor_label[:0], 0.1) == 0


def test_the_loss_falls_as_unlabelled_turns_towards_labelled() -> None:
    anchors, label = torch.eye(2), torch.arange(2)
    losses = []
    for degrees in range(90, -1, -10):
        angle = math.radians(degrees)
        mu = torch.tensor([[math.cos(angle), math.sin(angle)], [0.0, 0.0]])
        losses.append(float(prototype_loss(mu, torch.tensor([True, False]), anchors, label, 0.1)))
    assert all(b < a for a, b in pairwise(losses))


def test_names_of_classes_do_not_matter() -> None:
    """Number the cell classes otherwise, with their proxies, labels and memory: nothing changes."""
    order = torch.tensor([2, 0, 1, BACKGROUND, MIMIC])  # new number of each class
    rule, other = module(theta=0.3), module(theta=0.3)
    rule(*batch(5), 0.0)
    with torch.no_grad():
        other.proxies[order] = rule.proxies.clone()
        other.bank.vectors[order] = rule.bank.vectors.clone()
        other.bank.length[order] = rule.bank.length.clone()
    labelled, label, unlabelled, probability = batch(6)
    renamed = torch.empty_like(probability)
    renamed[:, order] = probability
    a, b = rule(labelled, label, unlabelled, probability, 1.0), other(labelled, order[label], unlabelled, renamed, 1.0)
    assert a.accepted == b.accepted > 0
    torch.testing.assert_close(a.total, b.total)


def test_the_ramp_waits_rises_and_stays() -> None:
    values = [ramp(p, 0.05, 0.3) for p in (0.0, 0.04, 0.05, 0.1, 0.2, 0.3, 1.0)]
    assert values[:2] == [0, 0]
    assert values[2] == pytest.approx(math.exp(-5))
    assert values == sorted(values)
    assert values[-2:] == [1, 1]


def test_rejections_form_a_cluster_of_their_own() -> None:
    """After a little training on labelled data a new mimic is nearer to the rejections, a new cell to the cells."""
    torch.manual_seed(0)
    rule = DualAlignment(8, CLASSES, width=16, keep=8)
    centres = 3 * torch.eye(8)[:5]
    optimiser = torch.optim.Adam(rule.parameters(), 0.01)
    g = seeded(2)

    def some(label: Tensor) -> Tensor:
        return centres[label] + torch.randn(len(label), 8, generator=g)

    label = torch.arange(40) % 5
    assert (rule.resemblance(some(label)) == 0).all()  # nothing known yet
    nobody = torch.zeros(0, 8), torch.zeros(0, 5)
    for _ in range(60):
        loss = rule(some(label), label, *nobody, 1.0).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    new = some(label)
    assert (rule.probabilities(new).argmax(1) == label).float().mean() > 0.8
    score = rule.resemblance(new)
    assert score[label < CLASSES].min() > 0 > score[label == MIMIC].max()


@pytest.mark.parametrize("what", ["nothing", "one cell", "all rejected", "images without numbers"])
def test_little_or_bad_data_give_finite_gradients(what: str) -> None:
    rule = module(theta=0.0)
    labelled, label, unlabelled, probability = batch()
    if what == "nothing":
        labelled, label, unlabelled, probability = (t[:0] for t in (labelled, label, unlabelled, probability))
    elif what == "one cell":
        labelled, label = labelled[:1], label[:1]
    elif what == "all rejected":
        label = torch.full_like(label, MIMIC)
    else:
        labelled[0, 3] = math.nan
        unlabelled[2] = math.inf
        probability[3] = math.nan
    for _ in range(2):
        aligned = rule(labelled, label, unlabelled, probability, 1.0)
        assert torch.isfinite(aligned.total)
        if aligned.total.requires_grad:
            assert all(torch.isfinite(g).all() for g in gradients(aligned.total, rule))
    assert torch.isfinite(rule.bank.vectors).all()


def test_an_unseen_class_is_refused() -> None:
    labelled, label, unlabelled, probability = batch()
    with pytest.raises(ValueError, match="outside the 3 classes"):
        module()(labelled, label + 1, unlabelled, probability, 1.0)
