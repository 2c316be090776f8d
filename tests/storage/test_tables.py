"""Tables that a config names: what is between and beyond the rows, and what each unreadable file is told."""

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.storage.dos_files import read_dos
from pipeline.storage.tables import read_nonlinearity


def written(tmp_path, text):
    path = tmp_path / "table.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_rows_are_interpolated_and_continued(tmp_path, separator):
    rows = [("10", "20"), ("20", "40"), ("30", "70")]
    text = "# adu corrected\n" + "\n".join(separator.join(r) for r in rows) + "\n"
    table = read_nonlinearity(written(tmp_path, text))
    assert table.shape == (512,)
    np.testing.assert_allclose(table[[10, 15, 20, 25, 30]], [20, 30, 40, 55, 70])
    # beyond: the first and the last slope
    np.testing.assert_allclose(table[[0, 9, 31, 511]], [0, 18, 73, 70 + 3 * 481])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\n2 b\n", "expected two columns of numbers"),
        ("", "expected two columns of numbers"),
        ("1 2 3\n4 5 6\n", r"expected two columns and two rows or more, got \(2, 3\)"),
        ("1 2\n", r"expected two columns and two rows or more, got \(1, 2\)"),
        ("1 2\n1 3\n", "both columns must increase"),
        ("1 3\n2 3\n", "both columns must increase"),
    ],
)
def test_what_is_no_table(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=rf"detector\.nonlinearity: {path}.*{message}"):
        read_nonlinearity(path)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"detector\.nonlinearity: .*absent\.txt cannot be read \(No such file"):
        read_nonlinearity(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("527 1 2\n528 3\n", r"line 2: 2 values \(528 3\); expected 3 as in the rows above"),
        ("527\n528\n", r"line 1: 1 values \(527\); expected energy_eV and dos"),
        ("527 1\n528 nan\n", "line 2: column 2 holds 'nan'; expected a finite number"),
        ("527 1\n528 x\n", "line 2: column 2 holds 'x'; expected a finite number"),
        ("527 1\n", "1 rows of numbers; expected at least two rows"),
        ("527 1\n529 2\n528 3\n", "line 3: energy 528 eV does not continue the order of the file"),
        ("527 1\n527 2\n", "line 2: energy 527 eV does not continue the order"),
        (
            "energy_eV dos extra\n527 1\n528 2\n",
            r"line 2: 2 numbers under a header of 3 names \(energy_eV, dos, extra\)",
        ),
    ],
)
def test_what_is_no_dos(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=rf"{path}.*{message}"):
        read_dos(path)


def test_a_falling_axis_is_turned_round(tmp_path):
    dos = read_dos(written(tmp_path, "529 3\n528 2\n527 1\n"), energy_zero=0.5)
    np.testing.assert_allclose(dos["energy"], [527.5, 528.5, 529.5])
    np.testing.assert_allclose(dos, [1, 2, 3])
