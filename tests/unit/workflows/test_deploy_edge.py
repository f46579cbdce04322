from __future__ import annotations

import base64
import json

import pytest
from workflow_world import EDGE, World, pattern

from isthmus.adapters.local.fleet import MAX_RECIPE_BYTES, MemoryFleet
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.edge.core import EdgeSettings
from isthmus.errors import EdgeDeploymentFailed, LimitExceeded, RolloutBusy
from isthmus.ports import EdgeComponent, EdgeStatus
from isthmus.workflows.deploy_edge import EdgeDeployment, check_edge, deploy_edge, model_recipe

BUNDLE = "b" * 64


class Edge:
    """The fleet and the edge function, deployed to by the workflow."""

    def __init__(self, world: World) -> None:
        self.world, self.fleet, self.functions = world, MemoryFleet(), MemoryFunctions()
        self.functions.install("edge", pattern())

    def deploy(self, model: str = "digits", release: int = 1, bundle: str = BUNDLE) -> EdgeDeployment:
        return deploy_edge(
            model,
            bundle,
            release,
            f"run-of-{model}",
            settings=EDGE,
            functions=self.functions,
            fleet=self.fleet,
            records=self.world.records,
            signer=self.world.signer,
            clock=1000.0,
        )

    def environment(self, model: str, version: str) -> dict[str, str]:
        found: dict[str, str] = self.fleet.components[f"shop.{model}.infer", version]["environment"]
        return found


@pytest.fixture
def edge(world: World) -> Edge:
    return Edge(world)


def test_both_components_are_made_and_deployed(edge: Edge) -> None:
    deployed = edge.deploy()
    assert deployed.components == ["shop.digits.model 1.0.0", "shop.digits.infer 1.1.0"]
    recipe = edge.fleet.components["shop.digits.model", "1.0.0"]
    artifact = recipe["Manifests"][0]["Artifacts"][0]
    assert artifact["Uri"] == f"s3://data/bundles/digits/{BUNDLE}/bundle.zip"
    assert artifact["Unarchive"] == "NONE", "we unpack what we have verified"
    infer = edge.fleet.components["shop.digits.infer", "1.1.0"]
    assert infer["dependencies"] == {"shop.digits.model": "1.0.0"}
    assert edge.fleet.deployments[EDGE.edge_target][deployed.deployment] == {
        "shop.digits.model": "1.0.0",
        "shop.digits.infer": "1.1.0",
    }


def test_the_edge_core_understands_its_environment(edge: Edge) -> None:
    edge.deploy()
    settings = EdgeSettings.from_env(edge.environment("digits", "1.1.0"))
    assert settings.port == 8770
    assert settings.public_key_der == edge.world.signer.public_key()
    assert settings.fail_when_refused
    root = "/greengrass/v2"
    assert str(settings.artifact) == f"{root}/packages/artifacts/shop.digits.model/1.0.0/bundle.zip"
    assert str(settings.store) == f"{root}/work/shop.digits.model/store"


def test_a_port_is_given_once_and_each_model_has_its_own(edge: Edge) -> None:
    edge.deploy("digits", 1)
    edge.deploy("fashion", 1)
    edge.deploy("digits", 2, "c" * 64)
    edge.deploy("fashion", 2, "d" * 64)
    ports = [
        edge.environment(model, version)["ISTHMUS_EDGE_PORT"]
        for model, version in (
            ("digits", "1.1.0"),
            ("fashion", "1.1.0"),
            ("digits", "2.1.0"),
            ("fashion", "2.1.0"),
        )
    ]
    assert ports == ["8770", "8771", "8770", "8771"]


def test_deploying_again_is_the_same_deployment(edge: Edge) -> None:
    assert edge.deploy() == edge.deploy()
    assert len(edge.fleet.deployments[EDGE.edge_target]) == 1


def test_two_that_deploy_at_once_take_turns(edge: Edge) -> None:
    edge.world.records.put({"pk": "EDGE", "sk": "ROLLOUT", "holder": "somebody", "until": 1060})
    with pytest.raises(RolloutBusy, match="somebody"):
        edge.deploy()
    assert edge.fleet.deployments == {}
    edge.world.records.put({"pk": "EDGE", "sk": "ROLLOUT", "holder": "somebody", "until": 999})
    edge.deploy()
    assert (edge.world.records.get("EDGE", "ROLLOUT") or {})["holder"] is None


def test_new_edge_code_is_a_new_component_version(edge: Edge) -> None:
    edge.deploy()
    edge.functions.install("edge", pattern("code-2"))
    assert edge.deploy().components[1] == "shop.digits.infer 1.2.0"


def test_foreign_components_of_the_target_are_kept(edge: Edge) -> None:
    foreign = EdgeComponent("aws.greengrass.LogManager", "2.3.0")
    edge.fleet.deploy(EDGE.edge_target, (foreign,), "by hand")
    edge.deploy("fashion", bundle="f" * 64)
    deployed = edge.deploy("digits")
    assert set(edge.fleet.deployments[EDGE.edge_target][deployed.deployment]) == {
        "aws.greengrass.LogManager",
        "shop.fashion.model",
        "shop.fashion.infer",
        "shop.digits.model",
        "shop.digits.infer",
    }


def test_the_longest_names_fit_a_recipe() -> None:
    component = EdgeComponent(f"{'s' * 128}.{'m' * 40}.model", "99999999.0.0")
    recipe = model_recipe(component, "m" * 40, BUNDLE, "b" * 63)
    assert len(json.dumps(recipe, separators=(",", ":"))) < MAX_RECIPE_BYTES


def test_a_recipe_over_the_limit_is_refused() -> None:
    component = EdgeComponent("a", "1.0.0")
    with pytest.raises(LimitExceeded, match="at most 16000"):
        MemoryFleet().publish_recipe(model_recipe(component, "m" * 20_000, BUNDLE, "b"))


def test_no_secret_but_the_public_key_reaches_a_device(edge: Edge) -> None:
    edge.deploy()
    environment = edge.environment("digits", "1.1.0")
    assert base64.b64decode(environment["ISTHMUS_PUBLIC_KEY"]) == edge.world.signer.public_key()
    assert set(environment) == {
        "ISTHMUS_EDGE_PORT",
        "ISTHMUS_MODEL_ARTIFACT",
        "ISTHMUS_EDGE_ON_REFUSAL",
        "ISTHMUS_EDGE_STORE",
        "ISTHMUS_PUBLIC_KEY",
    }


@pytest.mark.parametrize(
    ("states", "done", "pending"),
    [
        ([], True, []),
        (["SUCCEEDED"], True, []),
        (["COMPLETED", "QUEUED"], False, ["core-1"]),
        (["IN_PROGRESS"], False, ["core-0"]),
    ],
)
def test_progress(states: list[str], done: bool, pending: list[str]) -> None:
    fleet = MemoryFleet()
    fleet.statuses["d"] = [EdgeStatus(f"core-{n}", state) for n, state in enumerate(states)]
    progress = check_edge("d", "target", fleet=fleet)
    assert (progress.done, progress.pending) == (done, pending)


@pytest.mark.parametrize("state", ["FAILED", "TIMED_OUT", "REJECTED", "CANCELED"])
def test_a_device_that_failed_gives_its_own_cause(state: str) -> None:
    fleet = MemoryFleet()
    fleet.statuses["d"] = [EdgeStatus("core-0", "SUCCEEDED"), EdgeStatus("core-1", state, "BROKEN: no disk")]
    with pytest.raises(EdgeDeploymentFailed, match=rf"^core-1: {state} \(BROKEN: no disk\)$"):
        check_edge("d", "target", fleet=fleet)
