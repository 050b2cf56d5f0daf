"""Format numbers for the report."""


def count(value: int | None) -> str:
    """Format a whole number with thousands separators; None becomes a dash."""
    return "–" if value is None else f"{value:,}"


def fraction(value: float | None) -> str:
    """Format a number from 0 to 1; None becomes a dash."""
    return "–" if value is None else f"{value:.3f}"


def accuracy(mean: float, std: float | None) -> str:
    """Format an accuracy in percent, with its standard deviation if it has one."""
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else "")


def folds(sizes: list[int]) -> str:
    """Say how many folds there are, and how many labels each has."""
    if not sizes:
        return "no folds"
    least, most = min(sizes), max(sizes)
    return f"{len(sizes)} folds of {least:,}{f' to {most:,}' if most > least else ''} labels"


def official(folds: bool) -> str:
    """Say whether folds are STL-10's own."""
    return "the official ones" if folds else "not the official ones of STL-10"
