from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.errors import InvalidJob
from isthmus.frameworks.launch import command
from isthmus.frameworks.port import framework, known
from isthmus.rig.environments import source_folder


def launch(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "train.py").write_text(script)
    source = str(source_folder(tmp_path))
    return subprocess.run(
        command(sys.executable, source, "mxnet", ["train.py", *arguments]),
        cwd=tmp_path,
        env={"PYTHONPATH": source, "SM_OUTPUT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_that_imports_no_framework_pays_nothing_for_one(tmp_path: Path) -> None:
    done = launch(tmp_path, "import sys\nprint('numpy' in sys.modules, 'onnx' in sys.modules)\n")
    assert done.stdout == "False False\n"


def test_the_framework_is_repaired_at_its_first_import(tmp_path: Path) -> None:
    """A stand-in for MXNet that, like MXNet, imports what numpy and Python no longer have."""
    (tmp_path / "mxnet.py").write_text(
        "from distutils.version import LooseVersion\nimport numpy\nnumpy.NaN\n"
    )
    done = launch(tmp_path, "import mxnet\nprint(mxnet.numpy.int is int)\n")
    assert done.stdout == "True\n", done.stderr


def test_options_of_the_script_are_its_own(tmp_path: Path) -> None:
    done = launch(tmp_path, "import sys\nprint(sys.argv)\n", "--framework", "torch", "--", "-h")
    assert done.stdout == "['train.py', '--framework', 'torch', '--', '-h']\n", done.stderr


@pytest.mark.parametrize(
    ("script", "code", "failure"),
    [
        ("raise SystemExit(0)", 0, None),
        ("raise SystemExit", 0, None),
        ("raise SystemExit(5)", 5, "exit code 5"),
        ("raise SystemExit('no data')", 1, "no data"),
        ("def f(", 1, "SyntaxError"),
        ("def f():\n    raise ValueError('why')\nf()", 1, "ValueError: why"),
    ],
)
def test_exit_codes_and_the_failure_file(tmp_path: Path, script: str, code: int, failure: str | None) -> None:
    done = launch(tmp_path, script)
    assert done.returncode == code
    path = tmp_path / "failure"
    assert path.exists() == (failure is not None)
    if failure is not None:
        assert failure in path.read_text()


def test_an_unknown_framework_is_refused_with_those_that_there_are() -> None:
    assert known() == ("mxnet", "torch")
    with pytest.raises(InvalidJob, match="no framework 'jax' can be trained here; there are: mxnet, torch"):
        framework("jax")


def test_a_frameworks_name_is_that_of_its_module() -> None:
    """The launcher knows by it what to prepare for, before it imports anything of the framework's."""
    assert all(framework(name).module == name for name in known())


def test_a_script_that_starts_processes_of_its_own_is_found_by_them(tmp_path: Path) -> None:
    script = (
        "import multiprocessing\n"
        "def double(n):\n    return 2 * n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [21]))\n"
    )
    assert launch(tmp_path, script).stdout == "[42]\n"
