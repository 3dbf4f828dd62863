from dataclasses import replace

from manifests import a_manifest

from rag_vs_ft.index.build import _seconds_in_all
from rag_vs_ft.index.generations import Generation


def test_an_index_costs_its_build_and_its_updates(tmp_path):
    built = a_manifest("1")
    update = replace(built.counts, reused=3)
    assert built.cost_seconds == 0.1
    assert _seconds_in_all(None, built.counts, 2.0) == 2.0
    assert _seconds_in_all(Generation(tmp_path, built), update, 2.0) == 2.1
    assert _seconds_in_all(Generation(tmp_path, built), built.counts, 2.0) == 2.0, "nothing was taken over"


def test_what_an_index_cost_before_it_was_added_up_is_not_guessed(tmp_path):
    updated = replace(a_manifest("1"), counts=replace(a_manifest("1").counts, reused=3))
    assert updated.cost_seconds is None
    assert _seconds_in_all(Generation(tmp_path, updated), updated.counts, 2.0) is None
    assert _seconds_in_all(None, updated.counts, 2.0) is None, "vectors of a build that was killed"
