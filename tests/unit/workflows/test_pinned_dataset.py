"""Pinned datasets as the cloud sees them: pushed without their bytes, registered, placed, judged by the rig's word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from workflow_world import NOW, World, device, held_out, npy, onnx_model, weights_right_for

from isthmus import documents
from isthmus.errors import (
    DigestMismatch,
    InvalidInput,
    InvalidJob,
    InvalidManifest,
    InvalidModel,
    NoPlacement,
    PolicyViolation,
    Refused,
)
from isthmus.model import layout
from isthmus.model.dataset import InPlace, Manifest
from isthmus.model.device import DeviceDescriptor
from isthmus.model.judgement import Judgement, Scores
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.evaluate_model import Verdict, evaluate_model
from isthmus.workflows.in_place import locate
from isthmus.workflows.package_model import package_model
from isthmus.workflows.plan_training import plan_training
from isthmus.workflows.push_dataset import Prepared, prepare, push
from isthmus.workflows.register_dataset import Registered, register_dataset
from isthmus.workflows.start_pipeline import manifest_job_key, version_digest

BUCKET = "aws:eu-west-1"
HERE = InPlace(zone="onprem-milan", root="clinic", folder="scans/2026")
SOFTWARE = {"numpy": "2.2", "onnxruntime": "1.23"}
JOB: dict[str, Any] = {
    "model": "digits",
    "source": {
        "kind": "training",
        "framework": {"name": "mxnet", "version": "1.9.1"},
        "entry_point": "train.py",
        "code": "code",
    },
    "evaluation": {
        "inputs": {"path": "test/x.npy", "decode": {"format": "npy", "dtype": "uint8"}},
        "labels": {"path": "test/y.npy", "decode": {"format": "npy", "dtype": "int64"}},
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A dataset in ``data`` and code in ``code``."""
    base = tmp_path / "project"
    inputs, labels = held_out()
    for name, data in (
        ("data/test/x.npy", npy(inputs)),
        ("data/test/y.npy", npy(labels)),
        ("code/train.py", b"print('hello')\n"),
    ):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return base


def prepared(world: World, project: Path, job: dict[str, Any] = JOB, data: str = "data") -> Prepared:
    return prepare("digits", project / data, job, project, world.workdir(), in_place=HERE)


def put_policy(world: World, *zones: str, **more: str) -> None:
    policy = {"zones": list(zones), **more}
    world.records.put({"pk": layout.dataset_pk("digits"), "sk": layout.POLICY, "policy": policy})


def register(world: World, manifest: Manifest) -> Registered:
    key, job_key = world.upload(manifest)
    return register_dataset(
        key, job_key, stack="shop", bucket_zone=BUCKET, blobs=world.blobs, records=world.records, now=NOW
    )


def in_place(world: World, **changes: Any) -> Manifest:
    """A manifest whose files are not in the bucket."""
    manifest = world.manifest()
    for info in list(world.blobs.keys("datasets/digits/blobs/")):
        world.blobs.delete(info.key)
    return msgspec.structs.replace(manifest, in_place=HERE, **changes)


# ---------------------------------------------------------------------- push


def test_a_push_in_place_sends_everything_but_the_data(world: World, project: Path) -> None:
    ready = prepared(world, project)
    pushed = push(ready, world.blobs, lambda name, number, total: None)
    assert (pushed.files, pushed.sent_files) == (2, 2)
    kinds = sorted(info.key.rsplit("/", 1)[0] for info in world.blobs.keys(""))
    assert kinds == ["code", "datasets/digits/jobs", "datasets/digits/manifests"]
    everything = b"".join(world.blobs.get(info.key, max_bytes=2**20) for info in world.blobs.keys(""))
    for name in ("x", "y"):
        assert (project / f"data/test/{name}.npy").read_bytes() not in everything
    manifest = documents.decode(Manifest, world.blobs.get(pushed.manifest_key, max_bytes=2**20), "it")
    assert manifest.in_place == HERE
    assert b'"in_place":{"folder":"scans/2026","root":"clinic","zone":"onprem-milan"}' in documents.encode(
        manifest
    )
    put_policy(world, "onprem-*")
    registered = register_dataset(
        pushed.manifest_key,
        pushed.job_key,
        stack="shop",
        bucket_zone=BUCKET,
        blobs=world.blobs,
        records=world.records,
        now=NOW,
    )
    assert (registered.files, registered.kind) == (2, "training")


def test_where_files_lie_is_part_of_the_version_and_nothing_new_is_said_of_others(
    world: World, project: Path
) -> None:
    stays = prepared(world, project).manifest
    moved = msgspec.structs.replace(stays, in_place=msgspec.structs.replace(HERE, folder=None))
    uploaded = prepare("digits", project / "data", JOB, project, world.workdir()).manifest
    assert len({version_digest(manifest) for manifest in (stays, moved, uploaded)}) == 3
    assert len({manifest_job_key(manifest) for manifest in (stays, moved, uploaded)}) == 3
    assert b"in_place" not in documents.encode(uploaded)


@pytest.mark.parametrize("how", ["a copy", "a link", "the same folder"])
def test_data_among_the_code_are_refused(world: World, project: Path, how: str) -> None:
    job = JOB
    if how == "a copy":
        (project / "code/held_out.bin").write_bytes((project / "data/test/x.npy").read_bytes())
    elif how == "a link":
        (project / "code/data").symlink_to(project / "data/test/x.npy")
    else:
        (project / "data/train.py").write_text("print('hello')\n")
        job = {**JOB, "source": {**JOB["source"], "code": "data"}}
    with pytest.raises(InvalidInput, match="needs code without the data that stay where they are"):
        prepared(world, project, job)


def test_a_link_that_leads_out_is_refused_before_a_rig_does(world: World, project: Path) -> None:
    (project / "elsewhere.npy").write_bytes(b"x")
    (project / "data/test/z.npy").symlink_to(project / "elsewhere.npy")
    with pytest.raises(InvalidInput, match=r"test/z\.npy is a link that leads out of it"):
        prepared(world, project)


def test_an_import_is_judged_by_no_rig(world: World, project: Path) -> None:
    (project / "m.onnx").write_bytes(onnx_model())
    job = {**JOB, "source": {"kind": "import", "artifact": "m.onnx"}}
    with pytest.raises(InvalidJob, match="imports a model, which no rig judges"):
        prepared(world, project, job)


# ---------------------------------------------------------------------- where


def rig(name: str, **changes: Any) -> DeviceDescriptor:
    return device(name, **({"data_roots": ("clinic",), "software": SOFTWARE} | changes))


def test_a_root_is_found_in_the_zone_of_the_rigs_that_have_it() -> None:
    rigs = [rig("rig-1"), rig("rig-2"), rig("rig-3", zone="onprem-rome", data_roots=("lab",))]
    assert locate("clinic/scans/2026", None, rigs) == HERE
    assert locate("lab/", None, rigs) == InPlace(zone="onprem-rome", root="lab")
    others = [*rigs, rig("rig-4", zone="onprem-rome")]
    with pytest.raises(Refused, match="devices in onprem-milan and onprem-rome have: name it with --zone"):
        locate("clinic", None, others)
    assert locate("clinic", "onprem-rome", others).zone == "onprem-rome"


def test_a_root_that_nobody_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        Refused, match="with the data root clinc; rig-1 in onprem-milan has clinic: name the folder"
    ):
        locate("clinc", None, [rig("rig-1")])
    with pytest.raises(Refused, match="in onprem-oslo with the data root clinic; no device has any"):
        locate("clinic", "onprem-oslo", [device("rig-1")])
    with pytest.raises(
        InvalidInput, match=r"needs a data root, and a folder below it or none, not .clinic/\.\./etc"
    ):
        locate("clinic/../etc", None, [rig("rig-1")])


# ---------------------------------------------------------------------- register


def test_a_manifest_in_place_is_registered_without_a_look_for_its_files(world: World) -> None:
    put_policy(world, "onprem-*")
    manifest = in_place(world)
    assert register(world, manifest).files == 2
    raw = world.blobs.get(layout.registered_manifest(manifest_job_key(manifest)), max_bytes=2**20)
    assert documents.decode(Manifest, raw, "it").in_place == HERE


@pytest.mark.parametrize(
    ("zones", "more", "said"),
    [
        (
            ("onprem-rome",),
            {},
            "lets raw data lie in onprem-milan, where clinic/scans/2026 is; it lets them lie in on",
        ),
        (
            ("onprem-*",),
            {"may_leave": "nothing"},
            "for the trained model comes to aws:eu-west-1; it lets nothing",
        ),
    ],
)
def test_a_policy_decides_where_files_may_stay(
    world: World, zones: tuple[str, ...], more: dict[str, str], said: str
) -> None:
    put_policy(world, *zones, **more)
    with pytest.raises(PolicyViolation, match=said):
        register(world, in_place(world))


def test_no_name_that_a_pusher_chooses_takes_the_place_of_a_policy(world: World) -> None:
    with pytest.raises(
        PolicyViolation, match="needs a data policy of digits itself, for its files are read in clinic/sc"
    ):
        register(world, in_place(world))
    assert register(world, world.manifest()).files == 2


def test_files_in_the_bucket_need_a_policy_that_lets_them_be_there(world: World) -> None:
    put_policy(world, "onprem-*")
    with pytest.raises(
        PolicyViolation, match="where the bucket is; it lets them lie in onprem-\\* alone: leave them"
    ):
        register(world, world.manifest())
    put_policy(world, "onprem-*", "aws:eu-*")
    assert register(world, world.manifest()).files == 2


def test_keys_of_the_bucket_and_imports_do_not_go_with_files_that_stay(world: World) -> None:
    manifest = in_place(world)
    keyed = tuple(msgspec.structs.replace(file, key="v1/x") for file in manifest.files)
    with pytest.raises(InvalidManifest, match=r"gives test/x.npy a key of the bucket: leave the key out"):
        register(world, msgspec.structs.replace(manifest, files=keyed))


@pytest.mark.parametrize("folder", ["../etc", "/etc", "a/../b", "a/..", "."])
def test_no_folder_of_a_manifest_leads_out_of_its_root(world: World, folder: str) -> None:
    manifest = in_place(world)
    bad = msgspec.structs.replace(manifest, in_place=InPlace(zone="z", root="clinic", folder=folder))
    key = f"{layout.dataset_folder('digits')}manifests/m.json"
    world.blobs.put(key, documents.encode(bad))
    with pytest.raises(InvalidManifest, match="cannot be used"):
        register_dataset(
            key, "k" * 40, stack="s", bucket_zone=BUCKET, blobs=world.blobs, records=world.records, now=NOW
        )


# ---------------------------------------------------------------------- plan


def registered(world: World) -> str:
    put_policy(world, "onprem-*")
    manifest = in_place(world)
    register(world, manifest)
    return manifest_job_key(manifest)


def plan(world: World, key: str, *rigs: DeviceDescriptor) -> str:
    devices = RegisteredDevices(world.records)
    for entry in rigs:
        devices.register(entry)
    return plan_training(key, blobs=world.blobs, records=world.records, devices=devices).rig


def test_a_job_goes_where_its_data_are(world: World) -> None:
    rigs = [
        rig("rig-0", data_roots=("lab",), price_per_hour_usd=0.0),
        rig("rig-1", price_per_hour_usd=2.0),
        rig("rig-2", zone="onprem-rome"),
    ]
    assert plan(world, registered(world), *rigs) == "rig-1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zone": "onprem-rome"}, "the data stay in onprem-milan; this device is in onprem-rome"),
        (
            {"data_roots": ("lab", "x")},
            "needs the data root clinic, which its rig.toml names; the device has lab, x",
        ),
        ({"data_roots": ()}, "the device has none"),
        (
            {"software": {"numpy": "2.2"}},
            r"needs onnxruntime to judge models where the data are: install isthmus\[eng",
        ),
    ],
)
def test_who_cannot_read_the_data_is_refused_with_need_and_have(
    world: World, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(NoPlacement, match=said):
        plan(world, registered(world), rig("rig-1", **change))


# ---------------------------------------------------------------------- evaluate


def judged(world: World, key: str, scores: Scores, champion: str = "", model: bytes = onnx_model()) -> None:
    """Leave what a rig leaves of an attempt on data in place."""
    judgement = documents.encode(
        Judgement(scores=scores, model=documents.sha256(onnx_model()), champion_bundle=champion)
    )
    prefix = layout.attempt_output(key, 1)
    files = {"model.onnx": model, "judgement.json": judgement}
    for name, data in files.items():
        world.blobs.put(prefix + name, data)
    listed = [
        {"path": name, "sha256": documents.sha256(data), "size_bytes": len(data)}
        for name, data in files.items()
    ]
    world.blobs.put(prefix + "output.json", msgspec.json.encode({"files": listed}))


def evaluate(world: World, key: str) -> Verdict:
    return evaluate_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        open_engine=world.engine,
        workdir=world.workdir(),
    )


def champion(world: World, bundle: str, release: int) -> None:
    item = {"pk": layout.CHAMPIONS, "sk": "digits", "model": "digits", "bundle": bundle, "release": release}
    world.records.put(item)


def test_a_judgement_of_the_rig_opens_and_closes_the_gate(world: World) -> None:
    key = registered(world)
    judged(world, key, Scores(candidate=0.9))
    assert (evaluate(world, key).accepted, evaluate(world, key).candidate) == (True, 0.9)
    assert world.state(key)["evaluation"]["candidate"] == 0.9
    judged(world, key, Scores(candidate=0.2))
    verdict = evaluate(world, key)
    assert not verdict.accepted
    assert "accuracy 0.2000 is below the minimum 0.3000" in verdict.reason


def test_a_judgement_holds_against_the_champion_that_it_saw(world: World) -> None:
    key = registered(world)
    champion(world, "b" * 64, 4)
    judged(world, key, Scores(candidate=0.9, champion=0.95), "b" * 64)
    verdict = evaluate(world, key)
    assert (verdict.accepted, verdict.champion_release) == (False, 4)
    assert "0.9000 is worse than the champion's 0.9500" in verdict.reason
    judged(world, key, Scores(candidate=0.95, champion=0.9), "b" * 64)
    assert evaluate(world, key).accepted
    champion(world, "c" * 64, 5)
    verdict = evaluate(world, key)
    assert (verdict.accepted, verdict.candidate, verdict.champion) == (False, 0.95, None)
    assert "needs a comparison with release 5, which went into service after the candidate" in verdict.reason
    assert f"isthmus job retry {key}" in verdict.reason


def test_a_champion_that_does_not_take_the_data_is_said(world: World) -> None:
    key = registered(world)
    champion(world, "b" * 64, 4)
    judged(world, key, Scores(candidate=0.9, incomparable="another shape"), "b" * 64)
    verdict = evaluate(world, key)
    assert verdict.accepted
    assert verdict.reason.endswith("that takes this data: the champion does not (another shape)")


def test_a_judgement_of_another_model_or_none_counts_for_nothing(world: World) -> None:
    key = registered(world)
    judged(world, key, Scores(candidate=0.9), model=onnx_model(weights_right_for(2)))
    with pytest.raises(DigestMismatch, match="is of another model than attempt 1 left"):
        evaluate(world, key)
    judged(world, key, Scores(candidate=0.9))
    world.blobs.put(layout.attempt_output(key, 1) + "judgement.json", documents.encode(Judgement(
        scores=Scores(candidate=1.0), model=documents.sha256(onnx_model()))))  # fmt: skip
    with pytest.raises(DigestMismatch, match=r"judgement\.json is not what attempt 1 left"):
        evaluate(world, key)


def test_an_attempt_without_a_judgement_is_not_let_in(world: World) -> None:
    key = registered(world)
    world.attempt_left(key, 1, onnx_model())
    world.blobs.put(
        layout.attempt_output(key, 1) + "judgement.json",
        documents.encode(Judgement(scores=Scores(candidate=1.0), model=documents.sha256(onnx_model()))),
    )
    with pytest.raises(InvalidModel, match=r"attempt 1 left no judgement\.json"):
        evaluate(world, key)


def test_a_bundle_of_pinned_data_is_made_without_them(world: World) -> None:
    key = registered(world)
    judged(world, key, Scores(candidate=0.9))
    evaluate(world, key)
    packaged = package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=dict,
        workdir=world.workdir(),
    )
    folder = layout.bundle_folder("digits", packaged.bundle)
    manifest = msgspec.json.decode(world.blobs.get(folder + "manifest.json", max_bytes=2**20))
    assert manifest["metrics"] == {"accuracy": 0.9}
    assert not list(world.blobs.keys("datasets/digits/blobs/"))
