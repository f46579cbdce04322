from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.stub import ANY, Stubber
from workflow_world import EDGE, World, pattern

from isthmus.adapters.aws.fleet import DEPLOYABLE_SECONDS, POLL_SECONDS, GreengrassFleet
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.fleet import MAX_RECIPE_BYTES, MemoryFleet
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.adapters.local.signer import MemorySigner
from isthmus.edge.core import EdgeSettings
from isthmus.edge.trust import Trust
from isthmus.errors import (
    EdgeDeploymentFailed,
    InvalidInput,
    LimitExceeded,
    Refused,
    RolloutBusy,
    Unavailable,
)
from isthmus.inference.signed import key_id, open_signed, read_envelope
from isthmus.model import layout
from isthmus.model.signing import ReleaseDocument
from isthmus.ports import EdgeComponent, EdgeStatus
from isthmus.workflows.deploy_edge import (
    EdgeDeployment,
    EdgeProgress,
    check_edge,
    deploy_edge,
    model_recipe,
    take_back,
)
from isthmus.workflows.edge_canaries import CANARY_SECONDS
from isthmus.workflows.edge_papers import key_chain, rotate_keys

BUNDLE = "b" * 64
ROOT = Path(__file__).parents[3]


class Edge:
    """The fleet and the edge function, deployed to by the workflow."""

    def __init__(self, world: World) -> None:
        self.world, self.fleet, self.functions = world, MemoryFleet(), MemoryFunctions()
        self.functions.install("edge", pattern())

    def deploy(
        self,
        model: str = "digits",
        release: int = 1,
        bundle: str = BUNDLE,
        *,
        redrives: int = 0,
        clock: float = 1000.0,
    ) -> EdgeDeployment:
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
            clock=clock,
            redrives=redrives,
        )

    def check(
        self,
        deployment: str,
        model: str = "digits",
        release: int = 1,
        *,
        redrives: int = 0,
        clock: float = 1000.0,
    ) -> EdgeProgress:
        return check_edge(
            deployment,
            model,
            release,
            f"run-of-{model}",
            settings=EDGE,
            fleet=self.fleet,
            records=self.world.records,
            signer=self.world.signer,
            clock=clock,
            redrives=redrives,
        )

    def fails(self, deployment: str, cause: str = "BROKEN") -> None:
        """Let a core device report that a deployment failed."""
        self.fleet.statuses[deployment] = [EdgeStatus("core-0", "FAILED", cause)]

    def in_force(self) -> dict[str, str]:
        return self.fleet.latest(EDGE.edge_target)[1]

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
def test_progress(edge: Edge, states: list[str], done: bool, pending: list[str]) -> None:
    deployment = edge.deploy().deployment
    edge.fleet.statuses[deployment] = [EdgeStatus(f"core-{n}", state) for n, state in enumerate(states)]
    progress = edge.check(deployment)
    assert (progress.done, progress.pending) == (done, pending)


@pytest.mark.parametrize("state", ["FAILED", "TIMED_OUT", "REJECTED", "CANCELED"])
def test_a_device_that_failed_gives_its_own_cause(edge: Edge, state: str) -> None:
    deployment = edge.deploy().deployment
    edge.fleet.statuses[deployment] = [
        EdgeStatus("core-0", "SUCCEEDED"),
        EdgeStatus("core-1", state, "BROKEN: no disk"),
        EdgeStatus("core-2", state),
    ]
    cause = rf"^release 1 of digits: core-1: {state} \(BROKEN: no disk\); core-2: {state}$"
    with pytest.raises(EdgeDeploymentFailed, match=cause):
        edge.check(deployment)


def test_a_component_that_cannot_be_made_is_never_deployed(edge: Edge) -> None:
    edge.fleet.refused["shop.digits.model", "1.0.0"] = "the artifact cannot be read"
    with pytest.raises(EdgeDeploymentFailed, match="the artifact cannot be read"):
        edge.deploy()
    assert edge.fleet.deployments == {}
    assert edge.world.records.get("EDGE", "ROLLOUT") is None, "the lock is not held for what waits"


# ------------------------------------------------------------------------------ a release taken back


def test_a_failed_release_gives_way_to_the_one_before(edge: Edge) -> None:
    edge.deploy("fashion", 1)
    edge.deploy("digits", 1)
    before = edge.in_force()
    failed = edge.deploy("digits", 2, "c" * 64).deployment
    edge.fails(failed)
    with pytest.raises(EdgeDeploymentFailed, match="core-0: FAILED"):
        edge.check(failed, release=2)
    assert edge.in_force() == before
    edge.deploy("fashion", 2, "d" * 64)
    assert edge.in_force()["shop.digits.model"] == "1.0.0", "later deployments merge the good version"
    assert edge.in_force()["shop.fashion.model"] == "2.0.0"


def test_what_is_taken_back_is_a_new_release_of_the_old_bundle(edge: Edge) -> None:
    """A device that has had release 2 would take release 1 for a replay."""
    records, pk = edge.world.records, "MODEL#digits"
    for release in (1, 2):
        records.next_number(pk, "RELEASES")
        records.put({"pk": pk, "sk": f"RELEASE#{release:08d}", "bundle": str(release) * 64})
    edge.deploy("digits", 1)
    failed = edge.deploy("digits", 2, "c" * 64).deployment
    edge.fails(failed)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(failed, release=2)
    assert edge.in_force() == {"shop.digits.model": "1.0.0", "shop.digits.infer": "3.1.0"}
    component = edge.fleet.components["shop.digits.infer", "3.1.0"]
    assert component["dependencies"] == {"shop.digits.model": "1.0.0"}
    before = edge.environment("digits", "1.1.0")
    paper = component["environment"].pop("ISTHMUS_EDGE_RELEASE")
    assert component["environment"] == before
    signed = read_envelope(paper.encode(), "the paper")
    key = edge.world.signer.public_key()
    document = open_signed(ReleaseDocument, signed, {key_id(key): key}, "the paper")
    assert document == ReleaseDocument(model="digits", release=3, bundle="1" * 64)


def test_devices_are_handed_the_stacks_key_documents(edge: Edge) -> None:
    first, second = edge.world.signer, MemorySigner()
    rotate_keys(
        [first.public_key(), second.public_key()],
        [first, second],
        edge.world.records,
        pinned=first.public_key(),
    )
    rotate_keys([second.public_key()], [first, second], edge.world.records, pinned=first.public_key())
    edge.deploy()
    papers = EdgeSettings.from_env(edge.environment("digits", "1.1.0")).papers
    key = first.public_key()
    trust = Trust(keys={key_id(key): key}).following(papers.keys)
    assert (trust.version, set(trust.keys)) == (2, {key_id(second.public_key())})
    assert set(trust.former) == {key_id(key)}


def test_keys_that_no_device_would_follow_are_not_written(edge: Edge) -> None:
    first, second, records = edge.world.signer, MemorySigner(), edge.world.records
    pinned = first.public_key()
    with pytest.raises(InvalidInput, match="one of the keys of the last document too"):
        rotate_keys([second.public_key()], [second], records, pinned=pinned)
    assert key_chain(records) == "", "the first one follows what devices have pinned"
    rotate_keys([pinned], [first], records, pinned=pinned)
    with pytest.raises(InvalidInput, match="one of the new keys must sign too"):
        rotate_keys([second.public_key()], [first], records, pinned=pinned)
    with pytest.raises(InvalidInput, match="one of the keys of the last document too"):
        rotate_keys([second.public_key()], [second], records, pinned=pinned)


def test_a_failed_first_release_leaves_nothing_of_its_model(edge: Edge) -> None:
    edge.deploy("fashion", 1)
    before = edge.in_force()
    failed = edge.deploy("digits", 1).deployment
    edge.fails(failed)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(failed)
    assert edge.in_force() == before


def test_checking_a_failure_again_takes_back_once_and_says_the_same(edge: Edge) -> None:
    failed = edge.deploy().deployment
    edge.fails(failed, "no disk")
    for _ in range(2):
        with pytest.raises(EdgeDeploymentFailed, match=r"^release 1 of digits: core-0: FAILED \(no disk\)$"):
            edge.check(failed)
        edge.fleet.statuses.clear()
    assert len(edge.fleet.deployments[EDGE.edge_target]) == 2


def test_what_is_taken_back_can_be_deployed_again_and_taken_back_again(edge: Edge) -> None:
    edge.deploy("digits", 1)
    good = edge.in_force()
    for release in (2, 3):
        failed = edge.deploy("digits", release).deployment
        edge.fails(failed)
        with pytest.raises(EdgeDeploymentFailed):
            edge.check(failed, release=release)
        assert edge.in_force() == good


def test_a_redrive_deploys_anew_what_was_taken_back(edge: Edge) -> None:
    first = edge.deploy().deployment
    edge.fails(first)
    for _ in range(2):
        with pytest.raises(EdgeDeploymentFailed, match="BROKEN"):
            edge.check(first)
    assert edge.check(first, redrives=1) == EdgeProgress(False, [], [], again=True)
    second = edge.deploy(redrives=1).deployment
    assert second not in ("", first)
    assert edge.deploy(redrives=1).deployment == second
    assert set(edge.in_force()) == {"shop.digits.model", "shop.digits.infer"}
    edge.fails(second)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(second, redrives=1)
    assert edge.check(second, redrives=2).again


def test_a_redrive_keeps_a_deployment_that_was_not_taken_back(edge: Edge) -> None:
    first = edge.deploy().deployment
    assert edge.deploy(redrives=1).deployment == first
    assert not edge.check(first, redrives=1).again


def test_an_answer_that_got_lost_keeps_what_came_before(edge: Edge) -> None:
    """The deployment was made, its id was not recorded, and the state machine calls again."""
    edge.deploy("digits", 1)
    good = edge.in_force()
    deployment = edge.deploy("digits", 2).deployment
    edge.world.records.update("MODEL#digits", "EDGE", {"deployment": None})
    assert edge.deploy("digits", 2).deployment == deployment
    edge.fails(deployment)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(deployment, release=2)
    assert edge.in_force() == good


def test_a_newer_release_is_not_taken_back_for_an_older_ones_failure(edge: Edge) -> None:
    older = edge.deploy("digits", 1).deployment
    edge.deploy("digits", 2)
    newer = edge.in_force()
    edge.fails(older)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(older)
    assert edge.in_force() == newer


def test_another_models_deployment_that_carries_ours_is_followed(edge: Edge) -> None:
    """Greengrass cancels a deployment when the next one to the same target replaces it."""
    ours = edge.deploy("digits").deployment
    theirs = edge.deploy("fashion").deployment
    edge.fleet.statuses[ours] = [EdgeStatus("core-0", "CANCELED")]
    edge.fleet.statuses[theirs] = [EdgeStatus("core-0", "SUCCEEDED")]
    assert edge.check(ours).succeeded == ["core-0"]
    edge.fails(theirs)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(ours)
    assert set(edge.in_force()) == {"shop.fashion.model", "shop.fashion.infer"}


def test_taking_back_waits_for_its_turn(edge: Edge) -> None:
    failed = edge.deploy().deployment
    edge.fails(failed)
    edge.world.records.put({"pk": "EDGE", "sk": "ROLLOUT", "holder": "somebody", "until": 1060})
    with pytest.raises(RolloutBusy, match="somebody"):
        edge.check(failed)
    assert edge.fleet.latest(EDGE.edge_target)[0] == failed
    edge.world.records.put({"pk": "EDGE", "sk": "ROLLOUT", "holder": None, "until": None})
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(failed)
    assert edge.in_force() == {}
    assert (edge.world.records.get("EDGE", "ROLLOUT") or {})["holder"] is None


# ------------------------------------------------------------------------------------------- canaries


class Canaries:
    """Two canaries and one other device, a release under way, and a clock."""

    def __init__(self, edge: Edge) -> None:
        self.edge, self.now = edge, 1000.0
        edge.fleet.cores = {
            EDGE.edge_canaries: {"shop-1": "HEALTHY", "shop-2": "HEALTHY"},
            EDGE.edge_target: {"shop-3": "HEALTHY"},
        }

    def deploy(self, release: int = 1, redrives: int = 0) -> str:
        return self.edge.deploy(release=release, redrives=redrives, clock=self.now).deployment

    def check(self, deployment: str, release: int = 1, after: float = 0.0, redrives: int = 0) -> EdgeProgress:
        self.now += after
        return self.edge.check(deployment, release=release, clock=self.now, redrives=redrives)

    def say(self, deployment: str, **states: str) -> None:
        """``shop_1="SUCCEEDED"``: what a device says of a deployment."""
        said = [EdgeStatus(name.replace("_", "-"), state) for name, state in states.items()]
        self.edge.fleet.statuses[deployment] = said

    def has(self, target: str) -> str | None:
        return self.edge.fleet.latest(target)[1].get("shop.digits.model")

    def through(self, release: int) -> str:
        """Bring a release past the canaries; return the deployment to the others."""
        first = self.deploy(release)
        self.say(first, shop_1="SUCCEEDED", shop_2="SUCCEEDED")
        assert not self.check(first, release).again
        assert self.check(first, release, after=EDGE.edge_bake_seconds).again
        return self.deploy(release)


@pytest.fixture
def canaries(edge: Edge) -> Canaries:
    return Canaries(edge)


def test_canaries_have_a_release_for_a_while_before_the_others_get_it(canaries: Canaries) -> None:
    first = canaries.deploy()
    assert canaries.has(EDGE.edge_canaries) == "1.0.0"
    assert canaries.has(EDGE.edge_target) is None
    canaries.say(first, shop_1="SUCCEEDED", shop_2="IN_PROGRESS")
    assert canaries.check(first, after=100) == EdgeProgress(False, ["shop-1"], ["shop-2"])
    canaries.say(first, shop_1="SUCCEEDED", shop_2="SUCCEEDED")
    baking = EdgeProgress(False, ["shop-1", "shop-2"], [])
    assert canaries.check(first) == baking
    assert canaries.check(first, after=EDGE.edge_bake_seconds - 1) == baking
    assert canaries.deploy() == first, "called again, it is the same deployment"
    assert canaries.check(first, after=1).again
    everyone = canaries.deploy()
    assert everyone != first
    assert canaries.has(EDGE.edge_target) == "1.0.0"
    assert canaries.deploy() == everyone
    canaries.say(everyone, shop_3="SUCCEEDED")
    assert canaries.check(everyone).done
    second = canaries.deploy(2)
    assert canaries.has(EDGE.edge_target) == "1.0.0", "each release begins with the canaries"
    assert canaries.has(EDGE.edge_canaries) == "2.0.0"
    assert second not in (first, everyone)


def test_a_canary_that_fails_takes_the_release_back_and_nobody_else_ever_has_it(canaries: Canaries) -> None:
    canaries.through(1)
    bad = canaries.deploy(2)
    canaries.say(bad, shop_1="SUCCEEDED", shop_2="FAILED")
    for _ in range(2):
        with pytest.raises(EdgeDeploymentFailed, match=r"^release 2 of digits: canaries: shop-2: FAILED$"):
            canaries.check(bad, 2)
    assert canaries.has(EDGE.edge_canaries) == canaries.has(EDGE.edge_target) == "1.0.0"
    assert canaries.check(bad, 2, redrives=1).again
    again = canaries.deploy(2, redrives=1)
    assert canaries.has(EDGE.edge_canaries) == "2.0.0"
    assert canaries.has(EDGE.edge_target) == "1.0.0"
    assert again != bad


def test_a_canary_that_falls_ill_with_it_takes_the_release_back(canaries: Canaries) -> None:
    first = canaries.deploy()
    canaries.say(first, shop_1="SUCCEEDED", shop_2="SUCCEEDED")
    canaries.check(first)
    canaries.edge.fleet.cores[EDGE.edge_canaries]["shop-1"] = "UNHEALTHY"
    with pytest.raises(EdgeDeploymentFailed, match="canaries: shop-1 is UNHEALTHY with it"):
        canaries.check(first, after=5)
    assert canaries.has(EDGE.edge_canaries) is None


def test_a_canary_that_is_offline_is_not_waited_for_if_another_has_it(canaries: Canaries) -> None:
    first = canaries.deploy()
    canaries.say(first, shop_1="SUCCEEDED", shop_2="QUEUED")
    assert not canaries.check(first, after=CANARY_SECONDS - 1).again
    assert not canaries.check(first, after=1).again
    assert canaries.check(first, after=EDGE.edge_bake_seconds).again


def test_when_no_canary_answers_the_others_do_not_get_it_either(canaries: Canaries) -> None:
    first = canaries.deploy()
    canaries.say(first, shop_1="QUEUED", shop_2="QUEUED")
    with pytest.raises(
        EdgeDeploymentFailed, match=r"none of shop-1, shop-2 answered within 300 s; bring one"
    ):
        canaries.check(first, after=CANARY_SECONDS)
    assert canaries.has(EDGE.edge_canaries) is None
    assert canaries.has(EDGE.edge_target) is None


def test_what_fails_on_the_others_is_taken_back_from_the_canaries_too(canaries: Canaries) -> None:
    canaries.through(1)
    everyone = canaries.through(2)
    canaries.say(everyone, shop_3="FAILED")
    with pytest.raises(EdgeDeploymentFailed, match=r"^release 2 of digits: shop-3: FAILED$"):
        canaries.check(everyone, 2)
    assert canaries.has(EDGE.edge_canaries) == canaries.has(EDGE.edge_target) == "1.0.0"
    assert canaries.check(everyone, 2, redrives=1).again
    canaries.deploy(2, redrives=1)
    assert canaries.has(EDGE.edge_target) == "1.0.0", "a redrive begins with the canaries again"
    assert canaries.has(EDGE.edge_canaries) == "2.0.0"


def test_the_states_wait_for_longer_than_canaries_may_take(canaries: Canaries) -> None:
    machine = json.loads((ROOT / "statemachines/train_and_deploy.asl.json").read_text())["States"]
    short, all_waits = (entry["NumericLessThan"] for entry in machine["EdgeDeadline"]["Choices"])
    waited = short * machine["WaitForEdge"]["Seconds"]
    waited += (all_waits - short) * machine["WaitLongerForEdge"]["Seconds"]
    most = yaml.safe_load(
        re.sub(r"!\w+", "", (ROOT / "template.yaml").read_text().partition("Resources:")[0])
    )
    assert waited > CANARY_SECONDS + most["Parameters"]["EdgeBakeSeconds"]["MaxValue"]


def by_hand(edge: Edge, model: str = "digits") -> EdgeDeployment:
    return take_back(
        model,
        "it sees cats everywhere",
        settings=EDGE,
        fleet=edge.fleet,
        records=edge.world.records,
        signer=edge.world.signer,
        clock=1000.0,
    )


def test_a_release_is_taken_back_by_hand_from_both_groups(canaries: Canaries) -> None:
    canaries.through(1)
    everyone = canaries.through(2)
    made = by_hand(canaries.edge)
    assert canaries.has(EDGE.edge_canaries) == canaries.has(EDGE.edge_target) == "1.0.0"
    assert "shop.digits.model 1.0.0" in made.components
    with pytest.raises(EdgeDeploymentFailed, match="taken back by hand: it sees cats everywhere"):
        canaries.check(everyone, 2)
    with pytest.raises(Refused, match="or it was taken back already"):
        by_hand(canaries.edge)
    canaries.through(3)
    assert canaries.has(EDGE.edge_target) == "3.0.0"


def test_a_way_back_has_one_number_for_both_groups(canaries: Canaries) -> None:
    """A device may be in both, and takes one version of a component."""
    records, pk = canaries.edge.world.records, "MODEL#digits"
    for release in (1, 2):
        records.next_number(pk, "RELEASES")
        records.put({"pk": pk, "sk": f"RELEASE#{release:08d}", "bundle": str(release) * 64})
        canaries.through(release)
    by_hand(canaries.edge)
    latest = canaries.edge.fleet.latest
    groups = [latest(target)[1]["shop.digits.infer"] for target in (EDGE.edge_target, EDGE.edge_canaries)]
    assert groups == ["3.1.0", "3.1.0"]


def test_a_first_release_is_not_taken_back_by_hand_and_neither_is_what_nobody_has(edge: Edge) -> None:
    edge.deploy()
    before = edge.in_force()
    for model in ("digits", "cats"):
        with pytest.raises(
            Refused, match=f"no core device has a release of {model} that another one came before"
        ):
            by_hand(edge, model)
    assert edge.in_force() == before
    edge.world.records.put({"pk": "EDGE", "sk": "ROLLOUT", "holder": "somebody", "until": 1060})
    with pytest.raises(RolloutBusy, match="somebody"):
        by_hand(edge)


def test_by_hand_only_those_that_have_the_newest_release_go_back(canaries: Canaries) -> None:
    canaries.through(1)
    canaries.through(2)
    bad = canaries.deploy(3)
    by_hand(canaries.edge)
    assert canaries.has(EDGE.edge_canaries) == canaries.has(EDGE.edge_target) == "2.0.0"
    canaries.say(bad, shop_1="SUCCEEDED", shop_2="SUCCEEDED")
    with pytest.raises(EdgeDeploymentFailed, match="taken back by hand"):
        canaries.check(bad, 3)


def test_one_that_was_taken_back_by_hand_stays_so_while_its_redriven_pipeline_looks(
    canaries: Canaries,
) -> None:
    canaries.through(1)
    first = canaries.deploy(2)
    canaries.say(first, shop_1="FAILED")
    with pytest.raises(EdgeDeploymentFailed):
        canaries.check(first, 2)
    again = canaries.deploy(2, redrives=1)
    by_hand(canaries.edge)
    with pytest.raises(EdgeDeploymentFailed, match="taken back by hand"):
        canaries.check(again, 2, redrives=1)
    assert canaries.has(EDGE.edge_canaries) == "1.0.0"


class Throttled(MemoryFleet):
    """Fails once, at the second group that a release is taken back from."""

    taken_back = 0

    def deploy(self, target: str, components: Any, token: str, *, without: Any = ()) -> str:
        self.taken_back += token.startswith("revert-")
        if self.taken_back == 2:
            self.taken_back += 1
            raise Unavailable("Greengrass did not answer: throttled")
        return super().deploy(target, components, token, without=without)


def test_a_taking_back_that_breaks_off_between_the_groups_is_finished(edge: Edge) -> None:
    edge.fleet = Throttled()
    canaries = Canaries(edge)
    canaries.through(1)
    everyone = canaries.through(2)
    canaries.say(everyone, shop_3="FAILED")
    with pytest.raises(Unavailable):
        canaries.check(everyone, 2)
    with pytest.raises(EdgeDeploymentFailed, match="shop-3: FAILED"):
        canaries.check(everyone, 2)
    assert canaries.has(EDGE.edge_canaries) == canaries.has(EDGE.edge_target) == "1.0.0"


def test_a_deployment_that_a_newer_one_of_the_model_replaced_ends_its_pipeline(canaries: Canaries) -> None:
    canaries.through(1)
    older = canaries.deploy(2)
    canaries.deploy(3)
    with pytest.raises(EdgeDeploymentFailed, match="release 2 of digits was replaced on its way by a newer"):
        canaries.check(older, 2)


def test_after_a_way_back_a_lower_release_goes_under_a_number_that_devices_take(edge: Edge) -> None:
    """A way back takes the next number; what was packaged before, or is redriven, has a lower one."""
    for release in (1, 2):
        published = {
            "pk": layout.model_pk("digits"),
            "sk": layout.release_sk(release),
            "bundle": f"{release}" * 64,
        }
        edge.world.records.put(published)
        assert edge.world.records.next_number(layout.model_pk("digits"), "RELEASES") == release
    edge.deploy("digits", 1)
    failed = edge.deploy("digits", 2).deployment
    edge.fails(failed)
    with pytest.raises(EdgeDeploymentFailed):
        edge.check(failed, release=2)
    back = edge.in_force()["shop.digits.infer"]
    assert back == "3.1.0"
    again = edge.deploy("digits", 2, redrives=1)
    assert again.components == ["shop.digits.model 2.0.0", "shop.digits.infer 4.1.0"]
    assert edge.deploy("digits", 2, redrives=1) == again
    paper = EdgeSettings.from_env(edge.environment("digits", "4.1.0")).papers.release
    document = open_signed(
        ReleaseDocument,
        read_envelope(paper, "it"),
        {key_id(edge.world.signer.public_key()): edge.world.signer.public_key()},
        "it",
    )
    assert (document.release, document.bundle) == (4, "2" * 64)


# -------------------------------------------------------------------------- components of Greengrass


class SteppedClock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


COMPONENT = EdgeComponent("shop.digits.model", "1.0.0")
ARN = "arn:aws:greengrass:eu-west-1:000000000000:components:shop.digits.model:versions:1.0.0"


@pytest.fixture
def greengrass(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Greengrass as the process's one client sees it; each scripted answer must be used."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client.cache_clear()
    with Stubber(client("greengrassv2")) as stub:
        yield stub
        stub.assert_no_pending_responses()
    client.cache_clear()


def described(stub: Stubber, state: str, **status: Any) -> None:
    stub.add_response("describe_component", {"status": {"componentState": state, **status}}, {"arn": ARN})


def await_deployable(clock: SteppedClock) -> None:
    GreengrassFleet(clock).await_deployable(EDGE.edge_target, (COMPONENT,))


def test_a_component_is_waited_for_until_it_is_deployable(greengrass: Stubber) -> None:
    greengrass.add_client_error("describe_component", "ResourceNotFoundException", http_status_code=404)
    for state in ("REQUESTED", "INITIATED", "DEPLOYABLE"):
        described(greengrass, state)
    clock = SteppedClock()
    await_deployable(clock)
    assert clock.seconds == 3 * POLL_SECONDS


def test_the_wait_for_a_component_is_bounded(greengrass: Stubber) -> None:
    for _ in range(int(DEPLOYABLE_SECONDS / POLL_SECONDS) + 1):
        described(greengrass, "INITIATED")
    clock = SteppedClock()
    with pytest.raises(Unavailable, match=r"shop.digits.model 1.0.0 is INITIATED after 20 s"):
        await_deployable(clock)
    assert clock.seconds == DEPLOYABLE_SECONDS


@pytest.mark.parametrize("state", ["FAILED", "DEPRECATED"])
def test_a_component_that_will_never_be_deployable_says_why(greengrass: Stubber, state: str) -> None:
    described(greengrass, state, message="Invalid artifacts", errors={"s3://b/bundle.zip": "403"})
    cause = rf"is {state}: Invalid artifacts \(s3://b/bundle.zip: 403\)$"
    with pytest.raises(EdgeDeploymentFailed, match=cause):
        await_deployable(SteppedClock())


def test_a_component_that_exists_is_not_made_again(greengrass: Stubber) -> None:
    greengrass.add_client_error("create_component_version", "ConflictException", http_status_code=409)
    GreengrassFleet().publish_recipe({"ComponentName": "a"})


CALLS: dict[str, Callable[[GreengrassFleet], object]] = {
    "create_component_version": lambda fleet: fleet.publish_recipe({"ComponentName": "a"}),
    "describe_component": lambda fleet: fleet.await_deployable(EDGE.edge_target, (COMPONENT,)),
    "list_deployments": lambda fleet: fleet.latest(EDGE.edge_target),
    "list_core_devices": lambda fleet: fleet.status(EDGE.edge_target, "d"),
}


@pytest.mark.parametrize("operation", CALLS)
def test_a_greengrass_that_is_throttled_is_asked_again_later(greengrass: Stubber, operation: str) -> None:
    greengrass.add_client_error(operation, "ThrottlingException", http_status_code=429)
    with pytest.raises(Unavailable, match="Greengrass"):
        CALLS[operation](GreengrassFleet())


def test_a_component_is_taken_out_of_what_the_target_has(greengrass: Stubber) -> None:
    there = {name: {"componentVersion": "2.0.0"} for name in ("shop.digits.model", "shop.fashion.model")}
    entry = {"deploymentId": "old", "targetArn": EDGE.edge_target}
    greengrass.add_response("list_deployments", {"deployments": [entry]})
    greengrass.add_response("get_deployment", {"components": there})
    greengrass.add_response(
        "create_deployment",
        {"deploymentId": "new"},
        {
            "targetArn": EDGE.edge_target,
            "deploymentName": "isthmus",
            "components": {"shop.fashion.model": {"componentVersion": "2.0.0"}},
            "deploymentPolicies": ANY,
            "clientToken": ANY,
        },
    )
    fleet = GreengrassFleet()
    assert fleet.deploy(EDGE.edge_target, (), "revert-d", without=("shop.digits.model",)) == "new"
