"""Bad rows: kept apart with their reasons, and too many of them end the job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sextant_shared.errors import InvalidInput


@dataclass(slots=True)
class Quarantine:
    """Rows that were left out, by their number in the source."""

    rows: list[tuple[int, str]] = field(default_factory=list)

    def add(self, row: int, reason: str) -> None:
        """Leave out one row."""
        self.rows.append((row, reason))

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were left out for each reason."""
        return dict(sorted(Counter(reason for _, reason in self.rows).items()))

    def check(self, total: int, max_share: float) -> None:
        """Raise InvalidInput where more than `max_share` of `total` rows are bad, or none are left."""
        check(self.reasons, total, max_share)


def check(reasons: Mapping[str, int], total: int, max_share: float) -> None:
    """Raise InvalidInput where more than `max_share` of `total` rows are bad, or none are left."""
    bad = sum(reasons.values())
    if total in (0, bad):
        raise InvalidInput(f"no usable row: {total} read, {bad} bad ({_most(reasons)})", field="source")
    if bad > max_share * total:
        raise InvalidInput(
            f"{bad} of {total} rows ({bad / total:.1%}) are bad; most: {_most(reasons)}",
            field="max_bad_share",
            accepted=f"a share of at least {bad / total:.4f}, or cleaner data",
        )


def _most(reasons: Mapping[str, int]) -> str:
    worst = sorted(reasons.items(), key=lambda pair: -pair[1])[:3]
    return "; ".join(f"{reason}: {count}" for reason, count in worst) or "none"
