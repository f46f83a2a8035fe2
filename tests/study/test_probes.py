"""Probes find what was planted, controls find nothing, pushes turn one feature and leave the others."""

import numpy as np
import pytest
import torch

from innerloop.errors import InputError
from innerloop.study.probes import KINDS, fit, measure, random_steering_vector, split, steering_vector

N, D = 600, 32


def planted(noise=0.3, seed=0):
    """(rows, three binary features along orthogonal directions, the directions, groups of ten)."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(D, 3, generator=g))[0].T
    features = torch.randint(0, 2, (N, 3), generator=g)
    x = (2.0 * features - 1) @ directions * 2 + noise * torch.randn(N, D, generator=g) + torch.randn(D, generator=g)
    return x, features, directions, np.arange(N) // 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_planted_directions_are_recovered_and_shuffled_labels_are_chance(kind):
    x, y, _, groups = planted()
    found, _ = measure(kind, x, y, groups, 2)
    assert found.accuracy >= 0.99 and found.balanced >= 0.99 and found.low <= found.accuracy <= found.high
    assert abs(found.control - 0.5) < 0.07, "nothing is read where nothing is"
    assert found.selectivity == pytest.approx(found.accuracy - found.control) and found.selectivity > 0.4
    assert sum(found.classes) == found.test * 3 and found.groups == 18 and found.train + found.test == N


def test_a_linear_probe_is_along_what_was_planted():
    x, y, directions, _ = planted(noise=1.0)
    for kind, near in (("ridge", 0.95), ("logistic", 0.85)):
        weight = fit(kind, x, y, 2).weight
        for i in range(3):
            towards = weight[:, i, 1] - weight[:, i, 0]
            assert float(torch.cosine_similarity(towards, directions[i], dim=0)) > near


@pytest.mark.slow
def test_many_classes_and_one_feature():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 5, (N,), generator=g)
    x = 3 * torch.randn(5, D, generator=g)[y] + torch.randn(N, D, generator=g)
    for kind in KINDS:
        assert measure(kind, x, y, np.arange(N), 5)[0].accuracy >= 0.99


@pytest.mark.slow
def test_exclusive_or_escapes_lines_and_not_an_mlp():
    """The lesson of Othello-GPT: colour is mine xor my colour, and a change of coordinates makes it linear."""
    x, y, _, groups = planted()
    labels = y[:, 0] ^ y[:, 1]
    accuracy = {kind: measure(kind, x, labels, groups, 2)[0].accuracy for kind in KINDS}
    assert accuracy["ridge"] < 0.6 and accuracy["logistic"] < 0.6 and accuracy["mlp"] >= 0.99
    both = torch.stack((y[:, 1], labels), 1)
    assert (
        measure("ridge", x, y[:, :2], groups, 2)[0].accuracy >= 0.99 > measure("ridge", x, both, groups, 2)[0].accuracy
    )


def test_a_push_turns_its_feature_and_only_it():
    x, y, directions, _ = planted()
    probe = fit("ridge", x, y, 2)
    middle = x.mean(0)  # judged by what was planted, not by the probe
    for feature in range(3):
        v = steering_vector(probe, x, 1 - y[:, feature], feature)
        truth = lambda rows: ((rows - middle) @ directions.T > 0).long()  # noqa: E731
        assert torch.equal(truth(x), y)
        turned = truth(x + v) != y
        others = [i for i in range(3) if i != feature]
        assert float(turned[:, feature].float().mean()) >= 0.99
        assert float(turned[:, others].float().mean()) <= 0.01
        noise = random_steering_vector(v, torch.Generator().manual_seed(1))
        assert torch.allclose(noise.norm(dim=1), v.norm(dim=1), rtol=1e-4)
        assert float((truth(x + noise) != y).float().mean()) <= 0.02, "as large a push elsewhere turns nothing"


def test_how_far_a_push_goes():
    """times = 1 brings both classes level, 2 mirrors them; rows that read as the target already stay."""
    x, y, _, _ = planted()
    probe = fit("ridge", x, y, 2)
    margin = lambda rows: probe.scores(rows)[:, 0, 1] - probe.scores(rows)[:, 0, 0]  # noqa: E731
    target = torch.ones(N, dtype=torch.long)
    level, mirrored = (x + steering_vector(probe, x, target, 0, times=t) for t in (1.0, 2.0))
    low = margin(x) < 0
    assert margin(level)[low].abs().max() < 1e-4
    assert torch.allclose(margin(mirrored)[low], -margin(x)[low], atol=1e-4)
    assert torch.equal(level[~low], x[~low])
    feature = torch.arange(N) % 3
    each = steering_vector(probe, x, 1 - y[torch.arange(N), feature], feature)
    assert torch.equal(each[1], steering_vector(probe, x, 1 - y[:, 1], 1)[1])


def test_groups_are_held_out_whole():
    groups = np.repeat(np.arange(20), 7)
    train, test = split(groups, 0.3, seed=4)
    assert bool((train ^ test).all()) and int(test.sum()) == 6 * 7
    assert not set(groups[train.numpy()]) & set(groups[test.numpy()])
    again, other = split(groups, 0.3, seed=4)[1], split(groups, 0.3, seed=5)[1]
    assert torch.equal(test, again) and not torch.equal(test, other)


def test_a_leak_between_rows_of_a_group_is_not_rewarded():
    """Every group has a code and a random label: only a split through groups would let a probe read it."""
    g = torch.Generator().manual_seed(0)
    groups = torch.arange(192) // 4
    code, label = torch.randn(48, 64, generator=g), torch.randint(0, 2, (48,), generator=g)
    found, _ = measure("ridge", code[groups], label[groups], groups.numpy(), 2)
    assert found.accuracy < 0.75
    leaky, _ = measure("ridge", code[groups], label[groups], np.arange(192), 2)
    assert leaky.accuracy > 0.9


def test_an_unequal_balance_is_seen_through():
    """With 9 of 10 labels alike and nothing to read, accuracy looks good and balanced accuracy does not."""
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(N, generator=g) < 0.1).long()
    found, _ = measure("ridge", torch.randn(N, D, generator=g), y, np.arange(N), 2)
    assert found.accuracy > 0.85 and abs(found.balanced - 0.5) < 0.05
    assert abs(found.selectivity) < 0.05 and found.majority == pytest.approx(found.accuracy, abs=0.02)


@pytest.mark.slow
def test_probes_are_repeatable_and_leave_the_global_seed_alone():
    x, y, _, _ = planted()
    before = torch.random.get_rng_state()
    a, b = (fit("mlp", x, y, 2, seed=3).scores(x) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: fit("svm", torch.zeros(4, 2), torch.zeros(4), 2), "ridge, logistic, mlp"),
        (lambda: fit("ridge", torch.zeros(4, 2), torch.zeros(5).long(), 2), "rows"),
        (lambda: fit("ridge", torch.zeros(4, 2), torch.full((4,), 2), 2), "from 2 to 2"),
        (lambda: split(np.zeros(5)), "2 groups"),
    ],
)
def test_bad_calls_are_one_sentence(call, why):
    with pytest.raises(InputError, match=why):
        call()
