"""Intrinsic functions and paths, with the examples of the developer guide."""

from __future__ import annotations

from typing import Any

import pytest

from checks.findings import CheckError
from checks.paths import read
from checks.render import CONTEXT, render

GIVEN = {
    "name": "Ada",
    "count": 3,
    "list": [1, 2, 3, 3],
    "rows": [{"id": 1}, {"id": 2}],
    "first": {"a": {"x": 1}, "b": 2},
    "second": {"a": {"y": 2}},
    "text": '{"a": 1}',
    "a-b": {"c": 1},
    "none": None,
}


def value(expression: str) -> Any:
    return render({"v.$": expression}, GIVEN)["v"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("States.Format('Hello, {}! {} times', $.name, $.count)", "Hello, Ada! 3 times"),
        (r"States.Format('\{\} and \'{}\'', $.name)", "{} and 'Ada'"),
        ("States.Format('{}-{}-{}', true, null, 1.5)", "true-null-1.5"),
        ("States.Array($.name, 1, 'x')", ["Ada", 1, "x"]),
        ("States.Array()", []),
        ("States.ArrayPartition($.list, 3)", [[1, 2, 3], [3]]),
        ("States.ArrayContains($.list, 2)", True),
        ("States.ArrayRange(1, 9, 2)", [1, 3, 5, 7, 9]),
        ("States.ArrayRange(3, 1, -1)", [3, 2, 1]),
        ("States.ArrayGetItem($.list, 1)", 2),
        ("States.ArrayLength($.list)", 4),
        ("States.ArrayUnique($.list)", [1, 2, 3]),
        ("States.Base64Encode('Data to encode')", "RGF0YSB0byBlbmNvZGU="),
        ("States.Base64Decode('RGVjb2RlZCBkYXRh')", "Decoded data"),
        ("States.Hash('input data', 'SHA-1')", "aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ("States.JsonMerge($.first, $.second, false)", {"a": {"y": 2}, "b": 2}),
        ("States.StringToJson($.text)", {"a": 1}),
        ("States.JsonToString($.first)", '{"a":{"x":1},"b":2}'),
        ("States.MathAdd($.count, -1)", 2),
        ("States.StringSplit('1,2;3', ',;')", ["1", "2", "3"]),
        ("States.ArrayGetItem(States.StringSplit(States.Format('a.{}', $.name), '.'), 1)", "Ada"),
        ("States.Format('{}', $['a-b'].c)", "1"),
        ("States.Format('{}', $.rows[0].id)", "1"),
        ("States.Format('{}', $$.Execution.RedriveCount)", "0"),
        ("$$.Execution.Name", CONTEXT["Execution"]["Name"]),
        ("$.rows[*].id", [1, 2]),
        ("$.rows[?(@.id==2)].id", [2]),
        ("$.nothing[*]", []),
        ("$.none", None),
        ("$", GIVEN),
    ],
)
def test_an_expression_has_its_value(expression: str, expected: Any) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("States.Formt('x')", "States.Formt is no intrinsic function"),
        ("States.Format('{} {}', $.name)", "2 times {} for 1 values"),
        ("States.Format('{}', $.first)", "takes strings, numbers, booleans and null"),
        ("States.MathAdd($.count, 1.5)", "1.5 is no whole number"),
        ("States.MathAdd($.count)", "fails on the sample"),
        ("States.ArrayGetItem($.list, 9)", "fails on the sample"),
        ("States.JsonMerge($.first, $.second, true)", "deep merging"),
        ("States.Hash('x', 'SHA-3')", "fails on the sample"),
        ("States.Array(1, 2", "does not parse"),
        ("States.Array(1 2)", "where a comma should be"),
        ("States.Array(1) x", "after its end"),
        ("$.none.at.all", "reads \\$.none.at.all, which the sample input does not have"),
        ("$.[", "is no JSONPath"),
    ],
)
def test_a_wrong_expression_is_explained(expression: str, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        value(expression)


def test_a_template_is_rendered_at_every_depth() -> None:
    template = {"a": [{"b.$": "$.count"}], "c": {"d": "$.count"}}
    assert render(template, GIVEN) == {"a": [{"b": 3}], "c": {"d": "$.count"}}


def test_an_expression_must_be_text() -> None:
    with pytest.raises(CheckError, match="must be a path or an intrinsic function, not 3"):
        render({"a.$": 3}, GIVEN)


def test_the_context_object_is_read_by_two_dollars() -> None:
    assert read("$$.Map.Item.Index", {}, CONTEXT) == 0
