"""The kinds of residual error and the parameters that each has."""

KINDS = {
    "additive": ("additive",),
    "proportional": ("proportional",),
    "combined": ("additive", "proportional"),  # a^2 + b^2 f^2
    "combined1": ("additive", "proportional"),  # (a + b f)^2
    "lognormal": ("additive",),  # additive on the log scale
}


def names(errors: tuple[str, ...]) -> list[tuple[int, str]]:
    """What the entries of sigma are: (endpoint, "additive" or "proportional") for each."""
    return [(e, name) for e, kind in enumerate(errors) for name in KINDS[kind]]
