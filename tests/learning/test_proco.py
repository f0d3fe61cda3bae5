"""ProCo's terms against closed forms and worked values, and the machinery around them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_cervcell.learning.contrast import Recalibration, adversarial_instances, proto_loss
from napari_cervcell.learning.proco import ProCo


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=seeded(seed)), dim=-1)


def module(counts: tuple[int, ...] = (60, 30, 10), seed: int = 0, **options: float) -> ProCo:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
        return ProCo(encoder, 10, counts, width=8, **{"length": 32, **options})  # type: ignore[arg-type]


def views(n: int = 8, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(n, 6, generator=seeded(seed))
    return x, x + 0.1 * torch.randn(n, 6, generator=seeded(seed + 1)), torch.arange(n) % 3


NO_KEYS = torch.zeros(7, 0), torch.zeros(7, 0, dtype=torch.bool)


def test_without_keys_it_is_cross_entropy() -> None:
    logits, label = torch.randn(7, 4, generator=seeded()), torch.arange(7) % 4
    ce = F.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(proto_loss(logits, label, *NO_KEYS), ce)
    torch.testing.assert_close(proto_loss(logits, label, *NO_KEYS, weight=torch.full((4,), 0.25)), ce)


def test_without_alpha_keys_are_in_the_denominator_alone() -> None:
    logits, label = torch.randn(7, 4, generator=seeded()), torch.arange(7) % 4
    closeness = torch.rand(7, 9, generator=seeded(1))
    same = torch.rand(7, 9, generator=seeded(2)) < 0.3
    expected = F.cross_entropy(torch.cat([logits, closeness / 0.07], 1), label, reduction="none")
    even = torch.full((4,), 0.25)
    torch.testing.assert_close(proto_loss(logits, label, closeness, same, weight=even, alpha=0), expected)


def test_frequencies_as_weights_and_no_keys_are_balanced_softmax() -> None:
    logits, label = torch.randn(7, 3, generator=seeded()), torch.arange(7) % 3
    share = torch.tensor([0.9, 0.09, 0.01])
    expected = F.cross_entropy(logits + share.log(), label, reduction="none")
    torch.testing.assert_close(proto_loss(logits, label, *NO_KEYS, weight=share), expected)


def test_worked_value() -> None:
    loss = proto_loss(
        torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor([[0.9, 0.1]]), torch.tensor([[True, False]]),
        temperature=0.07, alpha=0.05, beta=1,
    )  # fmt: skip
    assert loss.item() == pytest.approx(11.29254, abs=5e-5)


def test_gradient_reaches_query_classifier_and_encoder_and_nothing_else() -> None:
    rule = module()
    x, y, label = views()
    rule.loss(x, y, label, seeded())
    y.requires_grad_()
    loss = rule.loss(x, y, label, seeded())
    (towards_keys,) = torch.autograd.grad(loss, y, allow_unused=True, retain_graph=True)
    assert towards_keys is None
    loss.backward()
    for name, parameter in rule.named_parameters():
        if name.startswith("key_"):
            assert parameter.grad is None
        elif name != "project.0.bias":  # batch normalisation takes the mean away
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0, name
    assert not rule.queue.requires_grad


def test_instances_carry_no_gradient() -> None:
    q = unit(4, 8).requires_grad_()
    instances, _, _ = adversarial_instances(q, torch.arange(4) % 2, unit(9, 8, seed=1), torch.arange(9) % 2, 2,
                                            generator=seeded())  # fmt: skip
    assert not instances.requires_grad


@given(seed=st.integers(0, 1000), eps=st.floats(0.01, 0.5))
@settings(max_examples=25, deadline=None)
def test_instances_are_harder_than_what_they_are_made_of(seed: int, eps: float) -> None:
    q, keys = unit(5, 8, seed=seed), unit(20, 8, seed=seed + 1)
    label, key_label = torch.arange(5) % 3, torch.arange(20) % 3

    def made(push: float) -> tuple[Tensor, Tensor, Tensor]:
        return adversarial_instances(q, label, keys, key_label, 3, generator=seeded(seed), hardest=4, eps=push)

    hard, same, real = made(eps)
    mixed, _, _ = made(0.0)
    torch.testing.assert_close(hard.norm(dim=2), torch.ones(5, 8))
    near, was = (q[:, None] * hard).sum(2), (q[:, None] * mixed).sum(2)
    assert (near[real & ~same] >= was[real & ~same] - 1e-6).all()
    assert (near[real & same] <= was[real & same] + 1e-6).all()
    assert (real & same).any()
    assert (real & ~same).any()


def test_without_mixing_and_pushing_instances_are_the_hardest_keys() -> None:
    q, keys = unit(3, 8), unit(12, 8, seed=1)
    label, key_label = torch.tensor([0, 1, 0]), torch.arange(12) % 2
    instances, same, real = adversarial_instances(q, label, keys, key_label, 2, generator=None, hardest=2, eps=0, mix=0)
    assert real.all()
    for i in range(3):
        closeness = keys @ q[i]
        other, own = key_label != label[i], key_label == label[i]
        nearest = keys[other][closeness[other].argsort(descending=True)[:2]]
        farthest = keys[own][closeness[own].argsort()[:2]]
        torch.testing.assert_close(instances[i], torch.cat([nearest, farthest]))
        assert same[i].tolist() == [False, False, True, True]


def test_adversarial_negatives_never_lower_the_loss() -> None:
    q, keys = unit(6, 8), unit(15, 8, seed=1)
    label, key_label = torch.arange(6) % 3, torch.arange(15) % 3
    logits = torch.randn(6, 3, generator=seeded(2))
    closeness, same = q @ keys.T, label[:, None] == key_label[None]
    instances, made_same, real = adversarial_instances(q, label, keys, key_label, 3, generator=seeded())
    near = (q[:, None] * instances).sum(2).masked_fill(~real | made_same, -math.inf)
    before = proto_loss(logits, label, closeness, same)
    after = proto_loss(
        logits, label, torch.cat([closeness, near], 1), torch.cat([same, torch.zeros_like(made_same)], 1)
    )
    assert (after >= before).all()
    assert (after > before).any()


def test_names_of_classes_do_not_matter() -> None:
    q, keys = unit(6, 8), unit(15, 8, seed=1)
    label, key_label = torch.arange(6) % 3, torch.arange(15) % 3
    logits, weight = torch.randn(6, 3, generator=seeded(2)), torch.tensor([0.7, 0.2, 0.1])
    order = torch.tensor([2, 0, 1])

    def loss(logits: Tensor, label: Tensor, key_label: Tensor, weight: Tensor) -> Tensor:
        made, made_same, real = adversarial_instances(q, label, keys, key_label, 3, generator=seeded())
        near = (q[:, None] * made).sum(2).masked_fill(~real, -math.inf)
        same = torch.cat([label[:, None] == key_label[None], made_same], 1)
        return proto_loss(logits, label, torch.cat([q @ keys.T, near], 1), same, weight=weight)

    renamed = torch.empty_like(logits)
    renamed[:, order] = logits
    moved = torch.empty_like(weight)
    moved[order] = weight
    torch.testing.assert_close(
        loss(renamed, order[label], order[key_label], moved), loss(logits, label, key_label, weight)
    )


@pytest.mark.parametrize(("length", "batches"), [(12, [4, 4, 4, 4]), (10, [4, 4, 4, 3]), (6, [4, 9, 2])])
def test_the_queue_keeps_its_length_and_the_newest_keys(length: int, batches: list[int]) -> None:
    rule = module(length=length)
    everything = torch.randn(sum(batches), 8, generator=seeded())
    for k, label in zip(everything.split(batches), torch.arange(sum(batches)).split(batches), strict=True):
        rule.enqueue(k, label)
    assert len(rule.queue) == length
    held = rule.queue_label[rule.queue_label >= 0]
    assert sorted(held.tolist()) == list(range(max(0, sum(batches) - length), sum(batches)))
    filled = rule.queue_label >= 0
    assert torch.equal(rule.queue[filled], everything[rule.queue_label[filled]])


def test_the_key_encoder_follows_slowly() -> None:
    rule = module()
    with torch.no_grad():
        rule.encoder[0].weight.add_(1.0)
    old, new = rule.key_encoder[0].weight.clone(), rule.encoder[0].weight.clone()
    rule.follow()
    torch.testing.assert_close(rule.key_encoder[0].weight, 0.999 * old + 0.001 * new)


def test_weights_start_as_frequencies_and_follow_recall() -> None:
    def after(*recall: float) -> Tensor:
        rule = Recalibration([60, 30, 10])
        rule.seen += 100
        rule.right += 100 * torch.tensor(recall)
        rule.end_epoch()
        return rule.weight

    share = torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(Recalibration([60, 30, 10]).weight, share)
    torch.testing.assert_close(after(0.7, 0.7, 0.7), share)
    torch.testing.assert_close(after(0, 0, 0), share)
    lower = after(0.7, 0.7, 0.2)
    assert lower[2] < share[2]
    assert (lower > 0).all()
    assert lower.sum().item() == pytest.approx(1)
    assert after(0.7, 0.7, 0.0)[2] < lower[2]


def test_recall_is_counted_anew_each_epoch_and_unseen_classes_are_average() -> None:
    rule = Recalibration([50, 50])
    rule.observe(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 0]))
    assert rule.right.tolist() == [1, 0]
    rule.end_epoch()
    torch.testing.assert_close(rule.weight, torch.tensor([0.5, 0.5]))
    assert rule.seen.sum() == 0
    rule.end_epoch()
    assert torch.isfinite(rule.weight).all()


def test_inference_needs_neither_queue_nor_key_encoder() -> None:
    rule = module().eval()
    x, _, _ = views()
    before = rule(x)
    with torch.no_grad():
        rule.queue.normal_(generator=seeded())
        for parameter in (*rule.key_encoder.parameters(), *rule.key_project.parameters(), *rule.project.parameters()):
            parameter.zero_()
    assert torch.equal(rule(x), before)


def test_a_round_goes_on_where_the_last_one_stopped() -> None:
    one, two = module(), module(seed=5)
    one.loss(*views(), seeded())
    one.recalibration.end_epoch()
    two.load_state_dict(one.state_dict())
    x, y, label = views(seed=7)
    assert torch.equal(one.loss(x, y, label, seeded(3)), two.loss(x, y, label, seeded(3)))
    assert torch.equal(one.queue, two.queue)


@pytest.mark.parametrize("what", ["a class without examples", "a batch of one class", "a class of one"])
def test_few_examples_give_finite_gradients(what: str) -> None:
    rule = module(counts=(60, 0, 1) if what == "a class without examples" else (60, 30, 1))
    x, y, label = views()
    label = {"a class without examples": 2 * (label > 1), "a batch of one class": 0 * label}.get(what, label)
    for _ in range(3):
        rule.zero_grad()
        loss = rule.loss(x, y, label, seeded())
        loss.backward()
        rule.recalibration.end_epoch()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in rule.parameters() if p.grad is not None)
    said = torch.softmax(rule.eval()(x), 1)
    assert torch.isfinite(said).all()
    if what == "a class without examples":
        assert (said[:, 1] == 0).all()
