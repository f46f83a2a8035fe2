"""The goodness-of-fit test of block models: its null law, its power, its choice of K, its floors."""

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.study.blocks import block_means, fit, fit_statistic, kmeans, number_of_blocks, sample, statistic

N, LAYERS, K = 120, 5, 3
LABELS = np.arange(N) % K


def means(seed=0, layers=LAYERS, blocks=K, low=0.05, high=0.25, more=0.2):
    """Blocks that attract, in every layer by other shares."""
    rng = np.random.default_rng(seed)
    b = rng.uniform(low, high, (layers, blocks, blocks))
    return (b + b.transpose(0, 2, 1)) / 2 + more * np.eye(blocks)


def test_with_the_true_probabilities_the_statistic_is_standard_normal():
    """200 networks: mean within 3 / sqrt(200), standard deviation near 1, about 5 % beyond 1.96."""
    b, rng = means(), np.random.default_rng(1)
    omega = b[:, LABELS][:, :, LABELS]
    found = np.array([statistic(sample(LABELS, b, rng), omega) for _ in range(200)])
    assert abs(found.mean()) < 3 / np.sqrt(200)
    assert 0.85 < found.std() < 1.15
    assert 0.01 <= (np.abs(found) > 1.96).mean() <= 0.10


def test_the_right_number_is_found_and_too_small_ones_are_far_off():
    b, rng = means(), np.random.default_rng(2)
    found = [number_of_blocks(sample(LABELS, b, rng), seed=i) for i in range(12)]
    assert [f.blocks for f in found] == [K] * 12 == [f.by_ratio for f in found]
    at = np.array([f.statistics for f in found])
    assert at.shape == (12, K), "it stops at the first that fits"
    assert at[:, 0].min() > 20 and at[:, 1].min() > 8 and np.abs(at[:, 2]).max() < np.log(N) == found[0].threshold


def test_one_block_is_found_too_and_four():
    rng = np.random.default_rng(3)
    one = number_of_blocks(sample(np.zeros(N, int), means(4, blocks=1), rng))
    assert one.blocks == 1 and one.by_ratio == 1 and one.ratios == []
    four = number_of_blocks(sample(np.arange(N) % 4, means(2, blocks=4, low=0.05, high=0.15, more=0.25), rng))
    assert four.blocks == 4


def test_too_many_blocks_fit_as_well_so_one_must_go_upwards():
    layers = sample(LABELS, means(), np.random.default_rng(5))
    assert all(abs(fit_statistic(layers, k)) < np.log(N) for k in (3, 4, 5))


def test_labels_are_recovered_where_layers_contradict_each_other():
    """Blocks that attract in one layer and avoid each other in the next cancel in a plain sum, not in squares."""
    same = np.full((2, 2, 2), 0.25)
    same[0] += 0.15 * np.eye(2) - 0.15 * (1 - np.eye(2))
    same[1] -= 0.15 * np.eye(2) - 0.15 * (1 - np.eye(2))
    labels = np.arange(100) % 2
    layers = sample(labels, same, np.random.default_rng(0))
    found = fit(layers, 2, np.random.default_rng(0)).labels
    assert max((found == labels).mean(), (found != labels).mean()) > 0.97
    values = np.linalg.eigvalsh(layers.sum(0) - 0.5)
    assert np.abs(values).max() < 3 * np.sqrt(2 * 0.25 * 100), "the sum shows nothing"


def test_sparse_layers_are_no_division_by_zero():
    """Layers without any link between two blocks: 0 / 0 is dropped, not infinite; empty layers too."""
    b = np.zeros((4, 2, 2))
    b[0] = [[0.5, 0.0], [0.0, 0.4]]
    b[1] = [[0.3, 0.0], [0.0, 0.5]]
    layers = sample(np.arange(80) % 2, b, np.random.default_rng(0))
    found = number_of_blocks(layers)
    assert found.blocks == 2 and np.isfinite(found.statistics).all()
    assert number_of_blocks(np.zeros((2, 10, 10), np.uint8)).statistics == [0.0]


def test_block_means_are_shares_of_pairs():
    layers = np.zeros((1, 5, 5))
    for i, j in ((0, 1), (0, 3), (2, 4)):
        layers[0, i, j] = layers[0, j, i] = 1
    found = block_means(layers, np.array([0, 0, 0, 1, 1]), 2)
    assert np.allclose(found[0], [[1 / 3, 2 / 6], [2 / 6, 0]])


def test_samples_are_symmetric_and_as_dense_as_told():
    b = means()
    total = np.mean([sample(LABELS, b, np.random.default_rng(i)) for i in range(60)], 0)
    assert (total == total.transpose(0, 2, 1)).all() and not total.diagonal(axis1=1, axis2=2).any()
    omega = b[:, LABELS][:, :, LABELS] * (1 - np.eye(N))
    assert abs((total - omega)[omega > 0].mean()) < 0.003


def test_kmeans_finds_what_lies_apart():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    truth = rng.integers(4, size=200)
    found = kmeans(centres[truth] + rng.standard_normal((200, 2)), 4, rng)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 4
    assert len(set(kmeans(np.zeros((6, 2)), 3, rng))) >= 1, "equal rows do no harm"


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        (np.zeros((4, 4)), r"\(L, n, n\)"),
        (np.triu(np.ones((1, 4, 4)), 1), "symmetric"),
        (np.full((1, 4, 4), 2) * (1 - np.eye(4)), "0 or 1"),
        (np.eye(4)[None], "itself"),
    ],
)
def test_what_is_no_network_is_refused(layers, why):
    with pytest.raises(InputError, match=why):
        number_of_blocks(layers)
