"""Captions such as "a small red disc on blue": what they say about the factors, both ways.

A caption names kind, colour and size of every shape (left before right) and the background, and leaves the position
free. A size is left out where a world has only one.
"""

from collections.abc import Mapping, Sequence

NAMED = ("size", "colour", "kind")  # in the order in which a caption names them; the background comes last

Values = Mapping[str, Sequence[str]]  # factor -> the words for its values


def prefixes(shapes: int) -> tuple[str, ...]:
    """What the names of a shape's factors begin with: nothing for one shape, "left " and "right " for two."""
    return ("",) if shapes == 1 else ("left ", "right ")


def write(factors: Mapping[str, int], values: Values, shapes: int) -> str:
    """The caption for factor values given by number."""
    phrases = []
    for prefix in prefixes(shapes):
        named = [name for name in NAMED if name != "size" or len(values[prefix + name]) > 1]
        phrases.append(" ".join(["a", *(values[prefix + name][factors[prefix + name]] for name in named)]))
    return f"{' and '.join(phrases)} on {values['background'][factors['background']]}"


def parse(caption: str, values: Values, shapes: int) -> dict[str, int]:
    """The numbers of the factor values that a caption names. What it leaves out ("a red disc") stays out.

    Raises:
        ValueError: for an unknown word, a factor named twice, or a number of shapes other than the world's.
    """
    scene, _, background = caption.partition(" on ")
    phrases = scene.split(" and ")
    if len(phrases) != shapes:
        raise ValueError(f"caption {caption!r} names {len(phrases)} shapes; images of this world show {shapes}")
    named: dict[str, int] = {}
    for prefix, phrase in zip(prefixes(shapes), phrases, strict=True):
        for word in phrase.split():
            if word != "a":
                _name(word, [prefix + name for name in NAMED], named, values, caption)
    for word in background.split():
        _name(word, ["background"], named, values, caption)
    return named


def _name(word: str, candidates: Sequence[str], named: dict[str, int], values: Values, caption: str) -> None:
    """Enter `word` into `named` as the value of the one candidate factor that has it."""
    for factor in candidates:
        if word in values[factor]:
            if factor in named:
                raise ValueError(f"caption {caption!r} names the {factor} twice")
            named[factor] = list(values[factor]).index(word)
            return
    known = ", ".join(value for factor in candidates for value in values[factor])
    raise ValueError(f"caption {caption!r}: unknown word {word!r} where one of these may stand: {known}")
