"""The engine ray: same bytes as the local one, on one machine and on two, and when something of it dies."""

from __future__ import annotations

import sys

import pytest

from data_recipes.runner.flow import RunStopped
from data_recipes.runner.progress import ProgressReporter
from data_recipes.runner.run import run_recipe
from tests.recipes.toy import contents, toy_config

pytestmark = [
    pytest.mark.filterwarnings("ignore")  # ray's own, which differ by version
]
STORE = 100 * 2**20


@pytest.fixture
def straight(tmp_path):
    """Files of the local engine."""
    run_recipe(toy_config(tmp_path / "local", 40))
    return contents(tmp_path / "local")


@pytest.fixture
def two_nodes():
    """A cluster of two nodes on this machine; the second one can be taken away."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 3, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=3, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_ray_writes_the_same_bytes_and_says_nothing(tmp_path, straight, capfd):
    run_recipe(toy_config(tmp_path / "ray", 40, name="ray"))
    assert contents(tmp_path / "ray") == straight
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


@pytest.mark.slow
def test_two_nodes_survive_the_loss_of_an_actor_and_of_a_task(tmp_path, straight, two_nodes):
    config = toy_config(
        tmp_path / "ray", 40, name="ray", workers=2,
        steps={"fault": {"how": "die_once", "at": "", "path": str(tmp_path / "task died")}},
    )  # fmt: skip
    config.backends["judge"]["dies"] = str(tmp_path / "actor died")
    run_recipe(config)
    assert (tmp_path / "task died").exists()
    assert (tmp_path / "actor died").exists()
    ours = contents(tmp_path / "ray")
    assert pairs_only(ours) == pairs_only(straight)
    assert sorted(ours) == sorted(straight)


@pytest.mark.slow
def test_two_nodes_survive_the_loss_of_one(tmp_path, straight, two_nodes):
    cluster, second = two_nodes

    class Cut(ProgressReporter):
        cut = False

        def unit_done(self, report):
            if not self.cut:
                self.cut = True
                cluster.remove_node(second, allow_graceful=False)

    watch = Cut()
    run_recipe(toy_config(tmp_path / "ray", 40, name="ray", workers=2), watch)
    assert watch.cut
    assert contents(tmp_path / "ray") == straight


@pytest.mark.slow
def test_a_step_without_an_answer_stops_a_run_on_ray(tmp_path):
    config = toy_config(tmp_path / "ray", 20, name="ray", steps={"fault": {"how": "down"}})
    with pytest.raises(RunStopped, match="the step fault gets no answer: http://127.0.0.1:9 does not answer"):
        run_recipe(config)


def pairs_only(files: dict[str, bytes]) -> dict[str, bytes]:
    """What does not name the settings, which differ by where the faults lie."""
    return {name: content for name, content in files.items() if name.endswith((".parquet", ".jsonl"))}


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    config = toy_config(tmp_path / "ray", 20, name="ray")
    told = r"the engine ray needs Ray Data .*: pip install 'insightedit\[ray\]', or choose engine.name=local"
    with pytest.raises(RunStopped, match=told):
        run_recipe(config)
