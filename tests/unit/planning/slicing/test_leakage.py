"""What may cross, by the policy and by figures; and the policy's limit as it is set and stored."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from isthmus import documents
from isthmus.adapters.local.records import MemoryRecords
from isthmus.cli.main import main
from isthmus.cli.policy import policy_item
from isthmus.errors import InvalidCase, InvalidDocument
from isthmus.model import layout
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.network import NetworkProfile, Operator, Tensor
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing.leakage import cuts, derived, figure, leaky, refusal, seen
from isthmus.workflows.loading import load_policy

EDGES = (("x", "a"), ("a", "b"), ("b", "c"), ("c", "y"))
LINE = NetworkProfile(
    name="line",
    digest="d" * 64,
    inputs=("x",),
    outputs=("y",),
    operators=tuple(
        Operator(name=f"to_{out}", kind="Relu", rate_class="Relu", inputs=(into,), outputs=(out,))
        for into, out in EDGES
    ),
    tensors=tuple(Tensor(name=name) for name in "xabcy"),
)


def cut(*tensors: str, r2: float, cast: str = "") -> Leakage:
    value = {
        "tensors": tensors,
        "r2": r2,
        "decoder": "rbf",
        "tried": {"rbf": r2},
        "elements": 1,
        "cast": cast,
    }
    return msgspec.convert(value, Leakage)


def report(*cuts: Leakage, fit: int = 1000, digest: str = LINE.digest) -> LeakageReport:
    return LeakageReport(
        model="line.onnx",
        model_digest=digest,
        samples_digest="5" * 64,
        fit_samples=fit,
        held_out_samples=500,
        seed=0,
        cuts=cuts,
    )


def policy(may_leave: str, limit: float | None = None) -> DataPolicy:
    fields = {"zones": ["home"], "may_leave": may_leave, "max_leakage_r2": limit}
    return documents.convert(DataPolicy, fields, "the policy")


FIGURES = report(cut("a", r2=0.9), cut("b", r2=0.5), cut("c", r2=0.4999))


@pytest.mark.parametrize(
    ("may_leave", "limit", "expected"),
    [
        ("everything", None, ""),
        ("everything", 0.5, ""),
        ("activations", None, "x"),
        ("activations", 0.95, "x"),
        ("activations", 0.5, "xab"),  # at the limit is too much
        ("activations", 0.1, "xabc"),
        ("results", None, "xabc"),
        ("results", 0.95, "xabc"),
        ("nothing", 0.95, "xabcy"),
    ],
)
def test_what_may_not_cross(may_leave: str, limit: float | None, expected: str) -> None:
    assert leaky(LINE, policy(may_leave, limit), FIGURES) == set(expected)


def test_what_was_not_measured_may_not_cross() -> None:
    asked = policy("activations", 0.6)
    assert leaky(LINE, asked, report(cut("c", r2=0.1))) == set("xab")
    assert leaky(LINE, asked, None) == set("xabc")


def test_figures_of_another_cast_do_not_count_but_those_without_a_cast_do() -> None:
    asked = policy("activations", 0.6)
    figures = report(
        cut("a", r2=0.7), cut("a", r2=0.2, cast="int8"), cut("b", r2=0.3), cut("c", r2=0.1, cast="int8")
    )
    assert leaky(LINE, asked, figures) == set("xac")
    assert leaky(LINE, asked, figures, cast="int8") == {"x"}
    assert leaky(LINE, asked, figures, cast="float16") == set("xac")


def test_figures_of_another_model_or_of_too_few_samples_are_refused() -> None:
    asked = policy("activations", 0.6)
    with pytest.raises(
        InvalidCase, match=r"line\.onnx \(eeeeeeeeeeee\) was measured, and the plan is for line"
    ):
        leaky(LINE, asked, report(cut("a", r2=0.1), digest="e" * 64))
    with pytest.raises(InvalidCase, match=r"on 1000 samples or more; those of line\.onnx were fitted on 999"):
        leaky(LINE, asked, report(cut("a", r2=0.1), fit=999))


def test_what_is_seen_outside_is_one_cut() -> None:
    wide = NetworkProfile(
        name="wide",
        inputs=("x",),
        outputs=("y",),
        operators=(
            Operator(name="left", kind="Relu", rate_class="Relu", inputs=("x",), outputs=("l",)),
            Operator(name="right", kind="Relu", rate_class="Relu", inputs=("x",), outputs=("r",)),
            Operator(name="join", kind="Add", rate_class="Add", inputs=("l", "r"), outputs=("j",)),
            Operator(name="last", kind="Add", rate_class="Add", inputs=("j", "l"), outputs=("y",)),
        ),
        tensors=tuple(Tensor(name=name) for name in "xlrjy"),
    )
    asked = policy("activations", 0.5)
    assert seen(wide, [{"home"}] * 4, asked) == ()
    assert seen(wide, [{"home"}, {"home"}, {"cloud"}, {"cloud"}], asked) == ("l", "r")
    assert seen(wide, [{"home"}, {"home"}, {"home"}, {"cloud"}], asked) == ("j", "l")
    # What was made outside, from what crossed, tells no more; the raw input read outside does.
    assert seen(wide, [{"home"}, {"home"}, {"cloud"}, {"home"}], asked) == ("l", "r")
    assert seen(wide, [{"home"}, {"cloud"}, {"cloud"}, {"cloud"}], asked) == ("x", "l")


def test_within_a_slice_on_several_devices_nothing_crosses() -> None:
    asked, both = policy("activations", 0.5), {"home", "cloud"}
    assert seen(LINE, [{"home"}, both, both, both], asked, [0, 1, 1, 1]) == ("a",)
    assert seen(LINE, [{"home"}, both, both, both], asked, [0, 1, 1, 2]) == ("a", "c")


def test_what_does_not_depend_on_raw_inputs_tells_nothing() -> None:
    constant = Operator(name="constant", kind="Constant", rate_class="c", outputs=("k",))
    body = Operator(name="body", kind="If", rate_class="If", inputs=("k",), outputs=("i",))
    last = Operator(name="last", kind="Sum", rate_class="Sum", inputs=("x", "k", "i"), outputs=("y",))
    network = replace(LINE, operators=(constant, body, last))
    assert derived(network) == {"x", "i", "y"}
    assert leaky(network, policy("results"), None) == {"x", "i"}
    assert seen(network, [{"home"}, {"home"}, {"cloud"}], policy("activations", 0.5)) == ("x", "i")


def test_measured_is_each_tensor_and_each_cut_in_two() -> None:
    def operator(inputs: str, output: str) -> Operator:
        return Operator(name=output, kind="Add", rate_class="Add", inputs=tuple(inputs), outputs=(output,))

    operators = (
        operator("x", "a"),
        operator("a", "b"),
        operator("ab", "c"),
        operator("cx", "d"),
        operator("d", "y"),
    )
    kinds = dict.fromkeys("xabcdy", "float32")
    network = replace(
        LINE, operators=operators, tensors=tuple(Tensor(name=n, dtype=t) for n, t in kinds.items())
    )
    # Cuts that the raw input crosses too can never leave.
    assert cuts(network) == (("a",), ("b",), ("c",), ("d",))
    residual = replace(network, operators=(*operators[:3], operator("c", "d"), operators[4]))
    assert cuts(residual) == (("a",), ("b",), ("a", "b"), ("c",), ("d",))
    kinds["b"] = "int64"
    whole = tuple(Tensor(name=name, dtype=dtype) for name, dtype in kinds.items())
    assert cuts(replace(residual, tensors=whole)) == (("a",), ("c",), ("d",))
    assert leaky(replace(residual, tensors=whole), policy("activations", 0.5), report()) >= {"b"}


def test_a_cast_counts_only_where_all_are_cast() -> None:
    half = tuple(Tensor(name=n, dtype="float16" if n == "a" else "float32") for n in "xabcy")
    figures = report(cut("a", r2=0.7), cut("a", r2=0.1, cast="int8"))
    assert figure(LINE, ("a",), figures, cast="int8") == figures.cuts[1]
    assert figure(replace(LINE, tensors=half), ("a",), figures, cast="int8") == figures.cuts[0]


def test_a_refusal_says_what_was_found_and_what_is_allowed() -> None:
    figures = report(cut("b", "c", r2=0.625), cut("b", r2=0.4))
    asked = policy("activations", 0.5)
    assert refusal(LINE, ("c", "b"), asked, figures) == (
        "c and b may not leave home: a decoder (rbf) rebuilds held-out inputs with R² 0.625, and the policy asks "
        "for less than 0.5: cut elsewhere, later as a rule"
    )
    assert refusal(LINE, ("a", "b"), asked, figures) == (
        "a and b may not leave home: the policy asks for a leakage below R² 0.5, and together they were not "
        "measured: measure, or cut elsewhere"
    )
    assert refusal(LINE, ("b",), asked, figures) is None
    assert refusal(LINE, ("b", "c"), policy("activations"), figures) is None


def test_the_report_is_a_document() -> None:
    raw = documents.encode(FIGURES)
    assert b'"schema":"isthmus/leakage/1"' in raw
    assert documents.decode(LeakageReport, raw, "it") == FIGURES


@pytest.mark.parametrize("limit", [-0.1, 1.1])
def test_a_limit_is_a_share(limit: float) -> None:
    with pytest.raises(InvalidDocument, match=r"max_leakage_r2"):
        policy("activations", limit)


def test_a_policy_without_a_limit_is_stored_as_it_always_was() -> None:
    stored = policy_item("digits", DataPolicy(zones=("home",)))["policy"]
    assert {**stored, "zones": list(stored["zones"])} == {
        "schema": "isthmus/policy/1",
        "zones": ["home"],
        "may_leave": "results",
    }


def test_a_limit_is_read_back() -> None:
    records, asked = MemoryRecords(), policy("activations", 0.5)
    records.put(policy_item("digits", asked))
    item = records.get(layout.dataset_pk("digits"), layout.POLICY)
    assert item is not None
    assert item["policy"]["max_leakage_r2"] == 0.5
    assert load_policy(records, "digits") == asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-leakage-r2", "0.5"], "goes with --may-leave activations; what may leave is results"),
        (["--may-leave", "activations", "--max-leakage-r2", "2"], "max_leakage_r2"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "set", "digits", "--zones", "home", *options]) == 2
    assert said in capsys.readouterr().err
