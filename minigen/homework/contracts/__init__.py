"""The book's contracts, one file each: `diffusion.diffuse` is CONTRACT in diffusion/diffuse.py.

The folder is the list. A new exercise is a new file FAMILY/NAME.py that defines CONTRACT; a family is a package. Names
that begin with an underscore hold what several exercises of a family share.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from minigen.homework.contract import Contract


class Contracts(Mapping[str, Contract]):
    """{"family.name": Contract} of this folder; a contract's file is imported when it is asked for."""

    def names(self) -> list[str]:
        """The names that there are, "family.name", in the order of the alphabet."""
        found = []
        for family in pkgutil.iter_modules(__path__):
            if family.ispkg and not family.name.startswith("_"):
                folders = [str(Path(folder, family.name)) for folder in __path__]
                inside = [module.name for module in pkgutil.iter_modules(folders)]
                found += [f"{family.name}.{name}" for name in inside if not name.startswith("_")]
        return sorted(found)

    def __getitem__(self, name: str) -> Contract:
        if name not in self.names():
            raise KeyError(name)
        contract = getattr(importlib.import_module(f"{__name__}.{name}"), "CONTRACT", None)
        if not isinstance(contract, Contract):
            raise TypeError(f"{name.replace('.', '/')}.py defines no CONTRACT = Contract(...)")
        return contract

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())


CONTRACTS = Contracts()
