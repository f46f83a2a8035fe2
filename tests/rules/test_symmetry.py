"""Symmetries as tables: the turns and mirrors of a grid."""

import pytest

from innerloop.rules.symmetry import dihedral


@pytest.mark.parametrize(("rows", "columns", "different"), [(3, 3, 8), (2, 4, 4), (4, 2, 4), (1, 5, 2)])
def test_turns_keep_neighbours_and_leave_an_oblong_grid_as_it_lies(rows, columns, different):
    table = dihedral(rows, columns)
    assert len(table) == (8 if rows == columns else 4) and table[0].tolist() == list(range(rows * columns))
    assert len({tuple(image) for image in table.tolist()}) == different
    for image in table.reshape(-1, rows, columns):
        for a, b in ((image[:, :-1], image[:, 1:]), (image[:-1], image[1:])):
            down, right = abs(a // columns - b // columns), abs(a % columns - b % columns)
            assert (down + right == 1).all(), "neighbours stay neighbours"
