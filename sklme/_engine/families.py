"""The table of families, and how a name becomes one."""

from sklme._engine.counts import NB1, NB2, Poisson
from sklme._engine.cumulative import CumulativeLogit
from sklme._engine.family import Family, Outcome, Terms
from sklme._engine.links import LINKS
from sklme._engine.positive import Gamma, InverseGaussian
from sklme._engine.shares import Beta, Binomial
from sklme._engine.tweedie import Tweedie
from sklme._engine.zero_inflation import ZeroInflated

__all__ = [
    "FAMILIES",
    "LINKS",
    "CumulativeLogit",
    "Family",
    "Outcome",
    "Terms",
    "ZeroInflated",
    "family_of",
]


def family_of(family, link: str | None = None) -> Family:
    """The family of a name, with the link of a name; an object passes through.

    Raises
    ------
    ValueError
        If there is no such family, or it has no such link.
    """
    if isinstance(family, type) or not (isinstance(family, str) or hasattr(family, "terms")):
        raise ValueError(
            f"family must be one of {_listed(FAMILIES)} or an object with the methods of Family, "
            f"not {family!r}"
        )
    if not isinstance(family, str):
        if link is not None:
            raise ValueError("a family that is an object brings its own link: leave link=None")
        return family
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}: possible are {_listed(FAMILIES)}")
    kind = FAMILIES[family]
    if link is not None and link not in kind.links:
        raise ValueError(
            f"the {family} family has no link {link!r}: possible are {_listed(kind.links)}"
        )
    return kind(link)


def _listed(names) -> str:
    return ", ".join(repr(name) for name in names)


FAMILIES: dict[str, type[Family]] = {
    kind.name: kind for kind in (Binomial, Poisson, NB1, NB2, Gamma, InverseGaussian, Beta, Tweedie)
}
