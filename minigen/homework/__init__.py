"""Graders that recognise the misconception, not just the wrong answer.

    from minigen.homework import grade
    grade("minimax.discriminator_loss", my_function)

A contract has a reference, inputs that tell right from wrong, and known wrong variants, each with what it gets wrong. A
function that agrees with a wrong variant on every input gets that explanation; one that agrees with none gets the
smallest input on which it fails.
"""

from minigen.homework.contract import Contract, ContractError, Input, Personal, RefusedError, gradients, value
from minigen.homework.contracts import CONTRACTS
from minigen.homework.grading import Grade, assess, grade, task
from minigen.homework.report import Report, grade_all

__all__ = [
    "CONTRACTS",
    "Contract",
    "ContractError",
    "Grade",
    "Input",
    "Personal",
    "RefusedError",
    "Report",
    "assess",
    "grade",
    "grade_all",
    "gradients",
    "task",
    "value",
]
