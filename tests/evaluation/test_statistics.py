import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rag_vs_ft.evaluation.statistics import (
    calibration,
    clustered_interval,
    detectable_difference,
    effective_clusters,
    holm,
    mcnemar_p,
    paired_difference,
    risk_coverage_area,
    share_of_gain,
    sign_flip_p,
)


def alone(values):
    return [f"q{number}" for number in range(len(values))]


def test_interval_of_single_questions_is_scipys_bca():
    values = np.random.default_rng(1).random(40).round(2).tolist()
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert clustered_interval(values, alone(values)) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_interval_is_wider_when_questions_share_documents():
    draw = np.random.default_rng(2)
    values = np.repeat(draw.integers(0, 2, 20), 4).astype(float).tolist()  # four equal answers on each document
    clustered = clustered_interval(values, [f"d{number // 4}" for number in range(80)])
    independent = clustered_interval(values, alone(values))
    # Four copies of a question say no more than one: the interval is about sqrt(4) times as wide.
    assert (clustered[1] - clustered[0]) / (independent[1] - independent[0]) == pytest.approx(2.0, rel=0.2)


def test_questions_on_one_document_are_not_taken_as_independent():
    values = [float(i % 2) for i in range(20) for _ in range(10)]
    own = clustered_interval(values, [str(i) for i in range(200)])
    together = clustered_interval(values, [str(i // 10) for i in range(200)])
    # Ten equal values in a cluster carry the evidence of one.
    assert together[1] - together[0] > 2.5 * (own[1] - own[0])
    # The mean is that of questions, not of documents: 30 zeros on one document outweigh five ones on five.
    low, high = clustered_interval([0.0] * 30 + [1.0] * 5, ["big"] * 30 + list("abcde"))
    assert 0 <= low < 5 / 35 < high <= 1


def test_an_interval_needs_something_to_resample():
    assert clustered_interval([1.0, 0.0], ["a", "a"]) is None
    assert clustered_interval([1.0, 1.0, 1.0], ["a", "b", "c"]) is None


def test_no_interval_where_there_is_nothing_to_resample():
    assert clustered_interval([1.0, 1.0, 1.0], ["a", "b", "c"]) is None
    assert clustered_interval([0.0, 1.0], ["a", "a"]) is None
    # A constant with one outlier: the interval is there or it is None, never NaN.
    found = clustered_interval([0.0] * 30 + [1.0], alone(range(31)))
    assert found is None or all(map(math.isfinite, found))


def test_sign_flips_by_hand():
    assert sign_flip_p([1, 1, 1], ["a", "b", "c"]) == 2 / 8
    assert sign_flip_p([1, 1, 1], ["a", "a", "a"]) == 1.0
    assert sign_flip_p([1, -1], ["a", "b"]) == 1.0
    assert sign_flip_p([0, 0], ["a", "b"]) == 1.0


def test_sign_flips_agree_with_scipys_permutation_test():
    values = np.random.default_rng(3).normal(0.3, 1, 30)
    expected = stats.permutation_test(
        (values, np.zeros(30)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
        vectorized=True,
    ).pvalue
    assert sign_flip_p(values.tolist(), alone(values)) == pytest.approx(expected, abs=0.01)


def test_a_sampled_p_value_is_never_zero():
    assert sign_flip_p([1.0] * 200, alone(range(200))) == 1 / 10_001


def test_exact_and_sampled_sign_flips_agree():
    values = np.random.default_rng(4).normal(0.4, 1, 12).tolist()
    exact = sign_flip_p(values, alone(values))
    # A thirteenth question without a difference changes nothing, and one with almost none takes the sampled way.
    assert sign_flip_p([*values, 0.0], alone(range(13))) == exact
    assert sign_flip_p([*values, 1e-6], alone(range(13))) == pytest.approx(exact, abs=0.015)


def test_false_alarms_come_as_often_as_promised():
    draw = np.random.default_rng(5)
    alarms = sum(
        sign_flip_p(np.repeat(draw.normal(0, 1, 8), 3).tolist(), [f"d{i // 3}" for i in range(24)]) <= 0.05 for _ in range(400)
    )
    assert alarms / 400 <= 0.075  # 0.05 and three standard errors
    ignored = sum(sign_flip_p(np.repeat(draw.normal(0, 1, 8), 3).tolist(), alone(range(24))) <= 0.05 for _ in range(60))
    assert ignored / 60 > 0.1  # what clustering guards against


def test_mcnemar_by_hand():
    assert mcnemar_p(5, 1) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_p(1, 5) == mcnemar_p(5, 1)
    assert mcnemar_p(0, 0) == mcnemar_p(3, 3) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_raises_every_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(0 <= before <= after <= 1 or after == 1 for before, after in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda row: p_values[row])
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


def clustered_answers(draw, effect, clusters=40):
    """Two arms on documents of one to six questions, whose answers hang together; b is right more often by `effect`."""
    sizes = draw.integers(1, 7, clusters)
    names = [f"d{at}" for at, size in enumerate(sizes) for _ in range(size)]
    shift = np.repeat(draw.normal(0, 0.15, clusters), sizes)
    a = (draw.random(len(names)) < 0.4).astype(float)
    b = (draw.random(len(names)) < np.clip(0.4 + effect + shift, 0, 1)).astype(float)
    return a.tolist(), b.tolist(), names


def test_a_difference_that_is_said_to_be_detectable_is_found_four_times_in_five():
    draw = np.random.default_rng(6)
    said = float(np.mean([detectable_difference(*clustered_answers(draw, 0.15)) for _ in range(100)]))
    found = sum(paired_p(*clustered_answers(draw, said)) <= 0.05 for _ in range(400))
    assert found / 400 == pytest.approx(0.8, abs=0.06)  # three standard errors
    corrected = float(np.mean([detectable_difference(*clustered_answers(draw, 0.15), comparisons=5) for _ in range(100)]))
    found = sum(paired_p(*clustered_answers(draw, corrected)) <= 0.05 / 5 for _ in range(400))
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def paired_p(a, b, names):
    return sign_flip_p([after - before for before, after in zip(a, b, strict=True)], names)


def test_the_detectable_difference_solves_its_equation():
    a, b, names = clustered_answers(np.random.default_rng(7), 0.1)
    found = detectable_difference(a, b, names)
    values = np.array(b) - np.array(a)
    apart = (values - values.mean()).tolist()
    sums = np.array([sum(value for value, name in zip(apart, names, strict=True) if name == one) for one in set(names)])
    variance = len(sums) / (len(sums) - 1) * (sums**2).sum() / len(values) ** 2
    shares = sum((names.count(one) / len(names)) ** 2 for one in set(names))
    assert found == pytest.approx(1.959964 * math.sqrt(variance + shares * found**2) + 0.841621 * math.sqrt(variance))


def test_no_difference_can_be_found_with_too_few_documents_or_without_variation():
    assert detectable_difference([0, 1], [1, 0], ["a", "a"]) is None
    assert detectable_difference([0, 0], [0, 0], ["a", "b"]) is None
    assert detectable_difference([0, 0, 0], [1, 0, 0], ["a", "b", "c"]) is None, "three flips leave p at 0.25"


def test_effective_clusters_by_hand():
    assert effective_clusters(list("abcd")) == 4
    assert effective_clusters(["a"] * 40 + [f"b{at}" for at in range(18)]) == pytest.approx(58**2 / (40**2 + 18))
    assert effective_clusters([]) == 0


def test_risk_coverage_by_hand():
    assert risk_coverage_area([1, 0], [0.9, 0.1]) == pytest.approx((0 + 1 / 2) / 2)
    assert risk_coverage_area([0, 1], [0.9, 0.1]) == pytest.approx((1 + 1 / 2) / 2)
    assert risk_coverage_area([1, 0], [0.5, 0.5]) == risk_coverage_area([0, 1], [0.5, 0.5]) == pytest.approx(0.5)
    assert risk_coverage_area([1, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12), st.randoms())
def test_risk_coverage_does_not_depend_on_the_order_of_questions(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    area = [risk_coverage_area([float(right) for right, _ in given], [sure for _, sure in given]) for given in (rows, shuffled)]
    assert area[0] == pytest.approx(area[1])


def test_calibration_by_hand():
    bins, error = calibration([1, 0, 1, 1], [0.95, 0.95, 0.55, 1.0])
    assert [(one.questions, one.accuracy) for one in bins] == [(1, 1.0), (3, pytest.approx(2 / 3))]
    assert error == pytest.approx((1 * 0.45 + 3 * (2.9 / 3 - 2 / 3)) / 4)


def test_paired_difference_by_hand():
    found = paired_difference([1, 0, 0, 1], [1, 1, 1, 0], ["a", "b", "c", "d"])
    assert (found.difference, found.better, found.worse, found.same) == (0.25, 2, 1, 1)
    assert found.mcnemar_p == 1.0 and found.p_value == 1.0
    assert paired_difference([0.5, 0], [1, 0], ["a", "b"]).mcnemar_p is None
    assert paired_difference([1, 0, 0], [1, 1, 1], ["a", "b", "b"]).mcnemar_p is None, "two questions on one document"
    with pytest.raises(ValueError):
        paired_difference([1], [1, 0], ["a", "b"])


def test_the_share_of_a_gain_by_hand_and_by_simulation():
    none, most = [4.0, 3.0, 5.0, 4.0], [2.0, 1.0, 2.0, 3.0]
    some = [3.0, 2.0, 3.5, 3.5]  # half of the way each time
    assert share_of_gain(none, some, most, list("abcd")) == (pytest.approx(0.5), (pytest.approx(0.5), pytest.approx(0.5)))
    assert share_of_gain(none, most, none, list("abcd")) is None  # nothing was gained
    assert share_of_gain([1.0, 2.0], [1.0, 2.0], [0.0, 3.0], list("ab")) is None  # not shown to be a gain
    assert share_of_gain(none, some, most, list("aaaa")) is None
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        whole = generator.normal(-1.0, 0.5, 80)
        way = 0.7 * whole + generator.normal(0.0, 0.3, 80)
        found = share_of_gain([0.0] * 80, way.tolist(), whole.tolist(), [str(number) for number in range(80)])
        held += found is not None and found[1][0] <= 0.7 <= found[1][1]
    assert held >= 52  # 95% of 60 is 57; fewer than 52 would come by chance once in 70 times
