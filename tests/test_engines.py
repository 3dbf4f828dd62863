"""Shards on workers that die, hang and fail: all others are finished, and nothing waits forever."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from engine_work import Squares, mark

from rag_vs_ft import engines
from rag_vs_ft.engines import HERE, Finished, Poisoned, Shard, WorkEngine, in_order, require_all
from rag_vs_ft.errors import CheckFailed, UserError

TWO = WorkEngine(workers=2, start_seconds=60, shard_seconds=30)


def shards(count: int) -> list[Shard]:
    return [Shard(f"number {number}", number, number) for number in range(count)]


def results(outcomes) -> dict[int, int | str]:
    return {one.shard.data: one.result if isinstance(one, Finished) else one.reason for one in outcomes}


@pytest.mark.parametrize("engine", [HERE, TWO])
def test_every_shard_is_finished_once_and_a_poisoned_one_is_reported(engine, tmp_path):
    mark(tmp_path, 3, "raise", 1)
    found = results(engine.run(Squares(str(tmp_path)), shards(8)))
    assert found == {number: number**2 for number in range(8)} | {3: "ArithmeticError: 3 is unlucky"}
    with pytest.raises(CheckFailed, match=r"1 of 8 shards .* others were:\n  number 3: ArithmeticError"):
        require_all([Poisoned(shards(8)[3], found[3])], 8, "again")


def test_the_shard_of_a_worker_that_dies_or_hangs_is_given_to_another(tmp_path):
    mark(tmp_path, 1, "die", 2)
    mark(tmp_path, 2, "die", 3)
    mark(tmp_path, 4, "hang", 1)
    told: list[str] = []
    engine = WorkEngine(workers=2, start_seconds=60, shard_seconds=1.5)
    outcomes = engine.run(
        Squares(str(tmp_path)), shards(6), progress=lambda stage, done=0, total=0, detail="": told.append(detail)
    )
    found = results(outcomes)
    assert found == {number: number**2 for number in range(6)} | {2: "its worker died (exit code 9), 3 times"}
    assert sum("given to another worker" in line for line in told) == 2 + 2 + 1


@pytest.mark.parametrize("engine", [HERE, TWO])
def test_what_concerns_the_input_ends_the_work(engine, tmp_path):
    mark(tmp_path, 1, "told", 1)
    with pytest.raises(UserError, match="no number"):
        list(engine.run(Squares(str(tmp_path)), shards(4)))
    with pytest.raises(UserError, match="no model"):
        list(engine.run(Squares(str(tmp_path), opens="told"), shards(4)))


def test_workers_that_do_not_start_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no worker could be started: ValueError: out of memory"):
        list(WorkEngine(workers=1 + 1).run(Squares(str(tmp_path), opens="out of memory"), shards(4)))
    started = time.monotonic()
    with pytest.raises(UserError, match="no worker was ready within"):
        list(WorkEngine(workers=2, start_seconds=0.01).run(Squares(str(tmp_path)), shards(4)))
    assert time.monotonic() - started < 60


def test_workers_do_not_run_the_script_again_that_started_them(tmp_path, monkeypatch):
    """A page of the app, say, which cannot run outside the app."""
    page = tmp_path / "page.py"
    page.write_text("import no_such_module\n", encoding="utf-8")
    script = ModuleType("__main__")
    script.__file__ = str(page)
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert results(TWO.run(Squares(str(tmp_path)), shards(4))) == {number: number**2 for number in range(4)}
    assert sys.modules["__main__"] is script


def test_shards_are_taken_when_a_worker_is_free(tmp_path):
    taken = 0

    def counted():
        nonlocal taken
        for shard in shards(20):
            taken += 1
            yield shard

    for number, _ in enumerate(TWO.run(Squares(str(tmp_path)), counted()), start=1):
        assert taken <= number + 2
    assert taken == 20
    assert not [process for process in engines.multiprocessing.active_children() if process.is_alive()]


def test_outcomes_are_put_in_order():
    some = shards(4)
    mixed = [Finished(some[number], number) for number in (2, 0, 3, 1)]
    assert [one.shard.number for one in in_order(mixed)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "spark"}, "no engine 'spark'"),
        ({"workers": 0}, "out of range"),
        ({"address": "auto"}, "Ray cluster"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        WorkEngine(**settings)


def test_a_cluster_elsewhere_is_joined_on_purpose_only(monkeypatch):
    ray = pytest.importorskip("ray")
    for address, said in (
        ("192.0.2.7:6379", "is not this machine"),
        ("127.0.0.1:1", "nothing answers"),
        ("nonsense", "HOST:PORT"),
    ):
        with pytest.raises(UserError, match=said):
            WorkEngine("ray", address=address).run(Squares("."), shards(1))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "NodeManagerAddress": "192.0.2.8"}])
    with pytest.raises(UserError, match=r"192\.0\.2\.8 is not this machine"):
        engines._require_here(ray)
    monkeypatch.setenv("RAG_VS_FT_ALLOW_REMOTE", "1")
    engines._require_here(ray)


# --- a Ray cluster of two nodes on this machine -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Two raylets of one CPU each, where a task that wants more waits forever."""
    pytest.importorskip("ray")
    # Workers import the work that tests give them.
    here = Path(__file__).parent
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(here), str(here.parent), os.environ.get("PYTHONPATH", ""))))
    from ray.cluster_utils import Cluster

    from rag_vs_ft import settings

    settings.quiet_dependencies()
    memory = {"object_store_memory": 150_000_000, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    node = found.add_node(num_cpus=1, object_store_memory=150_000_000)
    found.wait_for_nodes(120)
    try:
        yield found, node
    finally:
        found.shutdown()
        monkeypatch.undo()


def on(cluster, **given) -> WorkEngine:
    return WorkEngine("ray", address=cluster[0].address, **{"start_seconds": 120, "shard_seconds": 60, **given})


@pytest.mark.slow
def test_a_ray_cluster_retries_reports_and_ends(cluster, tmp_path):
    mark(tmp_path, 1, "die", 1)
    mark(tmp_path, 2, "raise", 1)
    mark(tmp_path, 3, "hang", 1)
    found = results(on(cluster, shard_seconds=8).run(Squares(str(tmp_path)), shards(6)))
    assert found == {number: number**2 for number in range(6)} | {2: "ArithmeticError: 2 is unlucky"}
    with pytest.raises(UserError, match="no number"):
        mark(tmp_path, 1, "told", 1)
        list(on(cluster).run(Squares(str(tmp_path)), shards(4)))
    more = on(cluster, workers=5)  # than there are CPUs: two do the work, and nobody waits for the others
    assert results(more.run(Squares(str(tmp_path)), shards(6))) == {number: number**2 for number in range(6)}


@pytest.mark.slow
def test_the_index_by_ray_is_that_of_this_process(cluster, tmp_path, tiny_embedder, monkeypatch):
    from rag_vs_ft import settings
    from rag_vs_ft.corpus import store
    from rag_vs_ft.index import build, generations
    from rag_vs_ft.mining import mine_cloze

    monkeypatch.setattr(build, "WORKER_TEXTS", 64)
    monkeypatch.setattr(build, "WORKER_DOCUMENTS", 8)
    recipe = build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=40)
    files, questions = {}, {}
    for name, engine in (("here", HERE), ("processes", WorkEngine(workers=2)), ("ray", on(cluster))):
        home = settings.home(tmp_path / name)
        store.add("docs", "sample", home=home)
        build.build("docs", "docs", recipe, home, engine=engine)
        files[name] = {key: record.sha256 for key, record in generations.current(home.indexes / "docs").manifest.files.items()}
        questions[name] = mine_cloze(store.open_corpus("docs", home), seed=1, limit=40, engine=engine)
    assert files["ray"] == files["processes"] == files["here"]
    assert questions["ray"] == questions["processes"] == questions["here"]


@pytest.mark.slow
def test_a_node_may_go_in_mid_batch_and_a_stopped_build_goes_on(cluster, tmp_path, tiny_embedder, monkeypatch):
    from rag_vs_ft import settings
    from rag_vs_ft.corpus import store
    from rag_vs_ft.index import build, generations

    monkeypatch.setattr(build, "WORKER_TEXTS", 16)
    recipe = build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=40)
    home = settings.home(tmp_path / "ray")
    store.add("docs", "sample", home=home)
    seen: list[int] = []

    class Stopped(BaseException):
        pass

    def stop(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage == "embed" and done > total // 4:
            raise Stopped

    with pytest.raises(Stopped):
        build.build("docs", "docs", recipe, home, stop, on(cluster))

    def remove(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage == "embed":
            seen.append(done)
            if done > total // 2 and len(cluster[0].list_all_nodes()) == 2:
                cluster[0].remove_node(cluster[1], allow_graceful=False)

    result = build.build("docs", "docs", recipe, home, remove, on(cluster))
    assert seen[0] > 0, "what the stopped build embedded was used"
    assert len(cluster[0].list_all_nodes()) == 1
    other = settings.home(tmp_path / "here")
    store.add("docs", "sample", home=other)
    alone = build.build("docs", "docs", recipe, other)
    kept = (generations.current(place.indexes / "docs").manifest.files for place in (home, other))
    assert [{key: record.sha256 for key, record in files.items()} for files in kept] == [
        {key: record.sha256 for key, record in alone.generation.manifest.files.items()}
    ] * 2
    assert result.counts.chunks == alone.counts.chunks


def test_marks_are_used_up(tmp_path: Path):
    mark(tmp_path, 7, "raise", 1)
    assert results(HERE.run(Squares(str(tmp_path)), [Shard("7", 7)])) == {7: "ArithmeticError: 7 is unlucky"}
    assert results(HERE.run(Squares(str(tmp_path)), [Shard("7", 7)])) == {7: 49}
