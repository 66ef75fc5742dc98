"""How the book's pages tell what was measured: a table, a spread, an interval, a verdict."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SEEDS = 3  # Fewer give no verdict.


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    """Shows a table in the notebook.

    Args:
        header: What stands above each column.
        rows: Its lines, each with as many cells. Cells are Markdown.

    Raises:
        ValueError: A row that has not as many cells as the header.
    """
    lines = [[str(cell) for cell in line] for line in (header, ["---"] * len(header), *rows)]
    for line in lines:
        if len(line) != len(header):
            raise ValueError(
                f"Each row must have {len(header)} cells, as the header has. Received: {line}"
            )
    from IPython.display import Markdown, display

    display(Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines)))


def spread(values: Iterable[float]) -> str:
    """Returns the mean and, of several values, the standard deviation, such as `"75.4 ± 0.6"`.

    Args:
        values: One for each seed. Of none, the answer is `"-"`.
    """
    found = np.array(list(values))
    if len(found) < 2:
        return f"{found[0]:.1f}" if len(found) else "-"
    return f"{found.mean():.1f} ± {found.std(ddof=1):.1f}"


def interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float]:
    """Returns a mean and half the width of its confidence interval, by Student's t.

    Args:
        values: At least one. One alone has an interval without end.
        confidence: How often such an interval holds the true mean.
    """
    # SciPy is scikit-learn's, and slow to import.
    from scipy import stats

    found = np.array(list(values))
    if len(found) < 2:
        return float(found.mean()), np.inf
    half = stats.t.ppf((1 + confidence) / 2, len(found) - 1) * stats.sem(found)
    return float(found.mean()), float(half)


def ends(values: Iterable[float]) -> str:
    """Returns the ends of the 95% interval, such as `"-0.8 to +2.3"`.

    They have the digits that it takes, up to three, for none to read 0.0 and for both to differ.
    """
    mean, half = interval(values)
    low, high = mean - half, mean + half
    near = min(abs(low), abs(high))
    for digits in (1, 2, 3):
        if near > 0.5 / 10**digits and round(low, digits) != round(high, digits):
            break
    return f"{low:+.{digits}f} to {high:+.{digits}f}"


def verdict(
    values: Iterable[float],
    words: tuple[str, str] = ("better", "worse"),
    least: float = 0.0,
    seeds: int = SEEDS,
) -> str:
    """Returns what the 95% interval says: above a value, below it, or `"not settled"`.

    Args:
        values: Differences, one for each seed.
        words: For above, and for below.
        least: The value to be above.
        seeds: How many values a verdict needs.
    """
    if len(found := list(values)) < seeds:
        return "not settled"
    mean, half = interval(found)
    return words[0] if mean - half > least else words[1] if mean + half < least else "not settled"
