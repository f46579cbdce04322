"""Which releases of a model's function have a name, and so can be asked for by number."""

from __future__ import annotations

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import listed
from isthmus.model.layout import RELEASE_ALIAS


@passing_trouble("Lambda")
def published_releases(function: str) -> list[int]:
    """Return the numbers of the releases that were proven here and not collected, in order."""
    names = (entry["Name"] for entry in listed("lambda", "list_aliases", "Aliases", FunctionName=function))
    numbers = (name.removeprefix(RELEASE_ALIAS) for name in names if name.startswith(RELEASE_ALIAS))
    return sorted(int(number) for number in numbers if number.isdecimal())
