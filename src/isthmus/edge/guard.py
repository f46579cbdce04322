"""What of a request may leave this device: asked before a way is chosen, and again right before bytes move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isthmus.errors import PolicyViolation
from isthmus.model.policy import DataPolicy
from isthmus.model.sliced import SlicedModel

HERE = "this device"


@dataclass(frozen=True)
class Guard:
    """A data policy applied to what crosses the cuts of one model; ``zone``: where the cloud's side lies."""

    policy: DataPolicy
    sliced: SlicedModel
    zone: str

    def refusal(self, tensors: Iterable[str]) -> str:
        """Return the rule that forbids to send these tensors together, or nothing.

        What a decoder could make of activations is known for what crosses a cut, and only for all of that: of anything
        else nothing is known, and with a limit it stays here.
        """
        names = frozenset(tensors)
        if self.policy.allows_zone(self.zone) or self.policy.may_leave == "everything":
            return ""
        where = f"{self.zone or 'an unknown zone'}, and raw data may lie in {', '.join(self.policy.zones)}"
        if raw := sorted(names & {spec.name for spec in self.sliced.inputs}):
            return f"the policy keeps the raw input {raw[0]!r} from {where}"
        if names <= {spec.name for spec in self.sliced.outputs} and self.policy.may_leave != "nothing":
            return ""
        if self.policy.may_leave != "activations":
            return f"the policy lets {self.policy.may_leave} leave, not activations, to {where}"
        return self._leaks(names)

    def check(self, tensors: Iterable[str]) -> None:
        """Refuse to let these tensors leave.

        Raises:
            PolicyViolation: names the rule.
        """
        if refused := self.refusal(tensors):
            raise PolicyViolation(refused)

    def _leaks(self, names: frozenset[str]) -> str:
        limit = self.policy.max_leakage_r2
        if limit is None:
            return ""
        known = self._measured(names)
        if known is None:
            return (
                f"the policy limits leakage to R² {limit:g}, and {', '.join(sorted(names))} was not measured"
            )
        return (
            ""
            if known < limit
            else f"a decoder rebuilds inputs with R² {known:.3f}; the policy allows {limit:g}"
        )

    def _measured(self, names: frozenset[str]) -> float | None:
        """Return the largest figure of transfers that carry all of these at once, or None."""
        found = [
            sent.leakage_r2
            for sent in self.sliced.transfers
            if names <= set(sent.tensors) and sent.source >= 0
        ]
        figures = [figure for figure in found if figure is not None]
        return max(figures) if figures and len(figures) == len(found) else None
