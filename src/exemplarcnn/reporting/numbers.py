"""How the report writes numbers."""


def count(value: int | None) -> str:
    """Return a whole number with its thousands apart, a dash for none."""
    return "–" if value is None else f"{value:,}"


def fraction(value: float | None) -> str:
    """Return a number of 0–1, a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def accuracy(mean: float, std: float | None) -> str:
    """Return an accuracy in percent, with its standard deviation if it has one."""
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else "")


def folds(sizes: list[int]) -> str:
    """Say how many folds there are, of how many labels."""
    if not sizes:
        return "no folds"
    least, most = min(sizes), max(sizes)
    return f"{len(sizes)} folds of {least:,}{f' to {most:,}' if most > least else ''} labels"


def official(folds: bool) -> str:
    """Say whether folds are STL-10's own."""
    return "the official ones" if folds else "not the official ones of STL-10"
