"""DOS text files: every layout people have, and a message with file and line for the rest."""

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.storage.dos_files import read_dos

LAYOUTS = {
    "space": "528.0 0.5\n529.0 1.5\n530.0 1e-1\n",
    "tab": "528.0\t0.5\n529.0\t1.5\n530.0\t0.1\n",
    "comma": "528.0,0.5\n529.0, 1.5\n530.0 ,0.1\n",
    "semicolon": "528.0;0.5;\n529.0;1.5;\n530.0;0.1;\n",
    "decimal comma": "528,0;0,5\n529,0;1,5\n530,0;0,1\n",
    "comment header": "# calculated for a test\n# energy_eV dos\n\n528.0 0.5 # first\n529.0 1.5\n530.0 0.1\n",
    "csv header": "energy (eV),dos\n528.0,0.5\n529.0,1.5\n530.0,0.1\n",
    "byte order mark": "\ufeffenergy dos\r\n528.0 0.5\r\n529.0 1.5\r\n530.0 0.1\r\n",
    "fortran": "  0.5280D+03  5.0d-1\n 0.5290D+03 0.15D+01\n 0.5300D+03 1.0D-1\n",
    "falling": "530.0 0.1\n529.0 1.5\n528.0 0.5\n",
    "energy last": "dos energy_eV\n0.5 528.0\n1.5 529.0\n0.1 530.0\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    path = tmp_path / "dos.txt"
    path.write_text(LAYOUTS[layout], encoding="utf-8")
    dos = read_dos(path)
    assert dos.dims == ("energy",)
    np.testing.assert_array_equal(dos["energy"], [528.0, 529.0, 530.0])
    np.testing.assert_array_equal(dos, [0.5, 1.5, 0.1])
    assert dos["energy"].attrs["units"] == "eV"
    assert {"units", "long_name"} <= set(dos.attrs)


@pytest.mark.parametrize("header", ["# energy_eV dos_total dos_O2p", "energy_eV,dos_total,dos_O2p"])
def test_named_column(tmp_path, header):
    path = tmp_path / "dos.csv"
    separator = "," if "," in header else " "
    path.write_text("\n".join([header, separator.join(["1", "2", "3"]), separator.join(["2", "4", "6"])]))
    np.testing.assert_array_equal(read_dos(path, "dos_O2p"), [3.0, 6.0])
    assert read_dos(path, "dos_total").name == "dos_total"
    with pytest.raises(ConfigError, match=r"several DOS columns .*dos_total, dos_O2p.*name the one to use"):
        read_dos(path)
    with pytest.raises(ConfigError, match="no DOS column 'dos_s'; there are dos_total, dos_O2p"):
        read_dos(path, "dos_s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("528 1\n529 two\n", r"line 2: column 2 holds 'two'; expected a finite number"),
        ("528 1\n529 nan\n", r"line 2: column 2 holds 'nan'"),
        ("528 1\n529 1 2\n", r"line 2: 3 values .* expected 2 as in the rows above"),
        ("528\n529\n", r"line 1: 1 values"),
        ("528,,1\n529,,1\n", r"line 1: column 2 holds ''"),
        ("# nothing\n", "0 rows of numbers; expected at least two"),
        ("528 1\n529 2\n529 3\n", r"line 3: energy 529 eV"),
        ("energy dos\n528 1 2\n529 1 2\n", r"line 2: 3 numbers under a header of 2 names"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "faulty.dat"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_dos(path)
    assert "faulty.dat" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match=r"absent\.dat: cannot read the DOS file \(No such file"):
        read_dos(tmp_path / "absent.dat")
    binary = tmp_path / "binary.dat"
    binary.write_bytes(b"\x89HDF\r\n\xff\xfe")
    with pytest.raises(DataError, match=r"byte 0 is not text; expected a UTF-8 text file"):
        read_dos(binary)


def test_column_without_header(tmp_path):
    path = tmp_path / "bare.dat"
    path.write_text("1 2 3\n2 3 4\n")
    with pytest.raises(ConfigError, match=r"no header.*cannot be found; add a line such as '# energy_eV"):
        read_dos(path, "dos")
    with pytest.raises(ConfigError, match=r"2 without names: add a header line\); name the one to use"):
        read_dos(path)
