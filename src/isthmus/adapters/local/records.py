"""``Records`` in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from isthmus.errors import Conflict
from isthmus.ports import Item


class MemoryRecords:
    """One table in memory; every operation is atomic, as a DynamoDB item's are."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Item] = {}
        self._lock = threading.Lock()

    def get(self, pk: str, sk: str) -> Item | None:
        with self._lock:
            item = self._items.get((pk, sk))
            return None if item is None else dict(_copied(item))

    def query(self, pk: str, *, prefix: str = "") -> list[Item]:
        with self._lock:
            keys = sorted(key for key in self._items if key[0] == pk and key[1].startswith(prefix))
            return [_copied(self._items[key]) for key in keys]

    def put(self, item: Item) -> None:
        with self._lock:
            self._items[item["pk"], item["sk"]] = _copied(item)

    def create(self, item: Item) -> bool:
        with self._lock:
            if (item["pk"], item["sk"]) in self._items:
                return False
            self._items[item["pk"], item["sk"]] = _copied(item)
            return True

    def update(
        self,
        pk: str,
        sk: str,
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
        below: Mapping[str, int] | None = None,
    ) -> None:
        with self._lock:
            item = self._items.get((pk, sk), {"pk": pk, "sk": sk})
            for name, wanted in (expect or {}).items():
                if item.get(name) != wanted:
                    raise Conflict(f"{pk}/{sk}: {name} is {item.get(name)!r}, not {wanted!r}")
            for name, limit in (below or {}).items():
                if name in item and not item[name] < limit:
                    raise Conflict(f"{pk}/{sk}: {name} is {item[name]!r}, not below {limit!r}")
            self._items[pk, sk] = {**item, **_copied(dict(values))}

    def delete(self, pk: str, sk: str, *, expect: Mapping[str, Any] | None = None) -> None:
        with self._lock:
            item = self._items.get((pk, sk), {})
            for name, wanted in (expect or {}).items():
                if item.get(name) != wanted:
                    raise Conflict(f"{pk}/{sk}: {name} is {item.get(name)!r}, not {wanted!r}")
            self._items.pop((pk, sk), None)

    def next_number(self, pk: str, sk: str) -> int:
        with self._lock:
            item = self._items.setdefault((pk, sk), {"pk": pk, "sk": sk, "number": 0})
            item["number"] += 1
            return int(item["number"])


def _copied(value: Any) -> Any:
    """Copy what an item holds: it is plain data, for which ``copy.deepcopy`` is slow."""
    if isinstance(value, dict):
        return {name: _copied(entry) for name, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list | tuple) else value
