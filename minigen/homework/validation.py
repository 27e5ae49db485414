"""Is a teacher's contract fit to judge? A fault of its own must never look like a student's."""

from __future__ import annotations

import itertools

from torch import Tensor

from minigen.homework.contract import Contract, ContractError, Function, Input
from minigen.homework.limit import untouched
from minigen.homework.observing import agree, error_text, see


def check(name: str, contract: Contract) -> None:
    """Run the reference and every wrong variant on every input, in the personal form too where there is one.

    Raises ContractError, which says what is to be mended: no inputs, inputs that do not fit the reference, a function
    that raises, a reference that gives NaN or chance, nothing to look at, or two that no input tells apart.
    """
    if not isinstance(contract, Contract):
        raise ContractError(f"the contract {name!r} is no Contract(...); got {type(contract).__name__}")
    for wrong, entry in contract.wrong.items():
        if not (isinstance(entry, tuple) and len(entry) == 2 and callable(entry[0]) and isinstance(entry[1], str)):
            raise ContractError(f"the contract {name!r}: wrong[{wrong!r}] must be (function, explanation)")
    with untouched():
        _check_form(name, contract)
        if contract.personal:
            constants = next(contract.personal.all_constants(), None)
            if constants is None:
                raise ContractError(f"the contract {name!r}: a constant of its personal form has no choices")
            try:
                contract.personal.task.format(**constants)
                form = contract.personal.make(**constants)
            except Exception as error:
                raise ContractError(f"the contract {name!r}: its personal form raises {error_text(error)}") from error
            _check_form(f"{name}, personal form", form)


def cases(name: str, contract: Contract) -> list[Input]:
    """The contract's inputs. Raises ContractError where there are none, or they do not fit its reference."""
    try:
        found = list(contract.inputs())
    except Exception as error:
        raise ContractError(f"the contract {name!r}: its inputs raise {error_text(error)}") from error
    if not found:
        raise ContractError(f"the contract {name!r} has no inputs, so that every answer would pass; give some")
    for case in found:
        if not isinstance(case, Input):
            raise ContractError(f"the contract {name!r}: inputs must be a list of Input; got {type(case).__name__}")
        if len(case.arguments) != len(contract.names):
            takes = f"the reference takes ({', '.join(contract.names)})"
            raise ContractError(f"the contract {name!r}: {len(case.arguments)} arguments in an input, but {takes}")
    return found


def observed(
    name: str, contract: Contract, which: str, function: Function, given: list[Input]
) -> list[dict[str, Tensor]]:
    """What a function of the contract's own does with inputs, tensors (...). Raises ContractError where it raises."""
    try:
        return [see(contract, function, case) for case in given]
    except Exception as error:
        raise ContractError(f"the contract {name!r}: {which} raises {error_text(error)}") from error


def _check_form(name: str, contract: Contract) -> None:
    given = cases(name, contract)
    functions = {"its reference": contract.reference}
    functions |= {f"its wrong variant {wrong!r}": variant for wrong, (variant, _) in contract.wrong.items()}
    seen = {which: observed(name, contract, which, function, given) for which, function in functions.items()}
    again = observed(name, contract, "its reference", contract.reference, given)
    for case, first, second in zip(given, seen["its reference"], again, strict=True):
        where = f"(for {case.description})"
        if not first:
            raise ContractError(
                f"the contract {name!r}: observe looks at nothing, so that every answer would pass {where}"
            )
        if any(value.isnan().any() for value in first.values()):
            raise ContractError(f"the contract {name!r}: its reference gives NaN, which any NaN would equal {where}")
        if not agree(first, second):
            raise ContractError(f"the contract {name!r}: its reference gives another answer each time {where}")
    for a, b in itertools.combinations(seen, 2):
        if all(map(agree, seen[a], seen[b])):
            raise ContractError(f"the contract {name!r}: no input tells {a} from {b}; add one that does")
