"""Instead of a whole grid of options: few rows, in which every value of one option meets every value of each other one."""

from itertools import combinations, product
from typing import Any


def pairs(**options: list[Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """(names, rows) for `pytest.mark.parametrize(*pairs(...))`; the row with most new pairs comes next, the same every time."""
    grid = list(product(*(range(len(values)) for values in options.values())))

    def met(row: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(combinations(enumerate(row), 2))

    wanted, rows = set().union(*map(met, grid)), []
    while wanted:
        rows.append(max(grid, key=lambda row: len(met(row) & wanted)))
        wanted -= met(rows[-1])
    return tuple(options), [tuple(values[i] for values, i in zip(options.values(), row, strict=True)) for row in rows]
