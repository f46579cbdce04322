"""Each function's environment in the template is exactly what its handler's settings read."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

import pytest
from cloudformation import ROOT, Template, environment, folder, functions

from isthmus import config
from isthmus.errors import EnvironmentProblem
from isthmus.inference.lambda_handler import ServeSettings

SERVING = {"ISTHMUS_MODEL_DIR"}
"""Of serve_model; what is of one model alone is added when it is staged: workflows/stage_model.py."""
FROM_COMPONENT = "edge_lambda"
"""Its environment comes with the Greengrass component: tests/unit/workflows/test_deploy_edge.py."""
CLASSES = {
    name: entry
    for name, entry in vars(config).items()
    if isinstance(entry, type) and issubclass(entry, config.FromEnvironment)
}


def settings_of(where: str) -> type[config.FromEnvironment]:
    """Return the one settings class that a handler names."""
    tree = ast.parse((ROOT / where / "app.py").read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(CLASSES)
    assert len(names) == 1, f"{where} reads {sorted(names)}"
    return CLASSES[names.pop()]


def required(kind: type[Any]) -> set[str]:
    return {
        config.PREFIX + entry.name.upper()
        for entry in dataclasses.fields(kind)
        if entry.default is dataclasses.MISSING
    }


def optional(kind: type[Any]) -> set[str]:
    return {config.PREFIX + entry.name.upper() for entry in dataclasses.fields(kind)} - required(kind)


def test_every_setting_is_in_the_template_and_nothing_else(template: Template) -> None:
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    globals_ = {entry for entry in shared if entry.startswith(config.PREFIX)}
    for name, properties in functions(template).items():
        where = folder(name, properties)
        given = {entry for entry in environment(template, properties) if entry.startswith(config.PREFIX)}
        if where == "functions/serve_model":
            assert given - globals_ == SERVING, name
        elif where == FROM_COMPONENT:
            assert given == globals_, name
        else:
            wanted = required(settings_of(where))
            assert wanted <= given, f"{name} lacks {sorted(wanted - given)}"
            read = wanted | optional(settings_of(where)) | globals_
            assert given <= read, f"{name} is given {sorted(given - read)}, which nobody reads"


def test_the_serving_function_reads_its_variables() -> None:
    env = {
        "ISTHMUS_MODEL_DIR": "/opt/m",
        "ISTHMUS_PUBLIC_KEY": "aGk=",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    }
    assert str(ServeSettings.from_env(env).model_dir) == "/opt/m"
    with pytest.raises(EnvironmentProblem, match="ISTHMUS_PUBLIC_KEY"):
        ServeSettings.from_env({**env, "ISTHMUS_PUBLIC_KEY": ""})


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(EnvironmentProblem, match="ISTHMUS_TABLE is not set"):
        config.StateSettings.from_env({"ISTHMUS_BUCKET": "b"})


FULL = {
    "ISTHMUS_BUCKET": "b",
    "ISTHMUS_TABLE": "t",
    "ISTHMUS_SIGNING_KEY": "k",
    "ISTHMUS_STACK": "s",
    "ISTHMUS_SERVING_FUNCTION": "f",
    "ISTHMUS_WEIGHTS_FUNCTION": "w",
    "ISTHMUS_ROLLOUT_WEIGHTS": "0.1,0.5,1",
    "ISTHMUS_ROLLOUT_STEP_SECONDS": "60",
    "ISTHMUS_ROLLOUT_MAX_SLOWDOWN": "2",
    "ISTHMUS_ROLLOUT_MAX_ERROR_RATE": "0.01",
    "ISTHMUS_ROLLOUT_BAKE_SECONDS": "180",
    "ISTHMUS_SERVING_START": "cold",
    "ISTHMUS_EVENT_BUS": "bus",
}


def test_weights_are_parsed() -> None:
    settings = config.DeployCloudSettings.from_env(FULL)
    assert settings.rollout_weights == (0.1, 0.5, 1.0)
    assert settings.rollout_step_seconds == 60


@pytest.mark.parametrize("weights", ["0.5,0.1", "0,1", "2", "a", "-0.1,1", "nan", "0.5,nan,1"])
def test_weights_that_make_no_sense_are_refused(weights: str) -> None:
    with pytest.raises(EnvironmentProblem, match="ISTHMUS_ROLLOUT_WEIGHTS"):
        config.DeployCloudSettings.from_env({**FULL, "ISTHMUS_ROLLOUT_WEIGHTS": weights})


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="ISTHMUS_ROLLOUT_STEP_SECONDS is 'soon'"):
        config.DeployCloudSettings.from_env({**FULL, "ISTHMUS_ROLLOUT_STEP_SECONDS": "soon"})


def test_models_need_no_approval_unless_the_stack_is_told_so(template: Template) -> None:
    parameters = template["Parameters"]
    assert (parameters["ManualApproval"]["Default"], parameters["ApprovalDays"]["Default"]) == ("", 7)
    given = functions(template)["RegisterModelFunction"]["Environment"]["Variables"]
    assert given["ISTHMUS_MANUAL_APPROVAL"] == {"Ref": "ManualApproval"}
    assert given["ISTHMUS_APPROVAL_DAYS"] == {"Ref": "ApprovalDays"}
    # Thirty days of training and fourteen of waiting (model/job.py), fourteen of a roll-out: all within a year.
    assert parameters["ApprovalDays"]["MaxValue"] + 30 + 14 + 14 < 365
