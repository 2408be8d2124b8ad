"""What the columns of a source are for, beside those that are learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sextant_data_prep.readers import plain
from sextant_data_prep.readers.batch import FILE_SPLIT
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Roles:
    """What certain columns are for."""

    target: str
    text: str | None
    split: str | None
    group: str | None
    time: str | None = None

    @classmethod
    def of(cls, spec: PrepareSpec, *, documents: bool, splits: bool) -> Roles:
        """As the spec has them, before what files say of their `splits`; documents have their own names for them."""
        if documents:
            return cls(plain.LABEL, plain.TEXT, FILE_SPLIT if splits else None, None)
        text = (spec.text or "") if spec.task == "text-classification" else None
        split = spec.split.column or (FILE_SPLIT if splits and not spec.split.time else None)
        return cls(spec.target or "", text, split, spec.split.group, spec.split.time)

    @property
    def taken(self) -> set[str | None]:
        """The columns that are no features."""
        return {self.target, self.split, self.group, self.time, FILE_SPLIT}

    def check(self, known: list[str]) -> None:
        """Raise InvalidInput for a column that there is not."""
        fields = {"target": self.target, "text": self.text, "split.column": self.split, "split.group": self.group}
        fields["split.time"] = self.time
        for asked, name in fields.items():
            if name is not None and name not in known:
                given = f"there is no column {name[:80]!r}" if name else "no column is named"
                raise InvalidInput(given, field=asked, accepted=listed(known))


def listed(known: Iterable[str]) -> str:
    """The names of columns, for an error to say which there are."""
    return ", ".join([name[:80] for name in known if name != FILE_SPLIT][:30])
