"""Ways in which raw files are damaged, each drawn with its own random numbers: the same seed damages the same bytes."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

__all__ = ["KINDS", "Case"]

DETECTOR = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf"
IMAGE = f"INSTRUMENT/{DETECTOR}/image"
COUNTS = f"INDEX/{DETECTOR}/image"
SLOW = ("SA3_XTD10_MONO/MDL/PHOTON_ENERGY/actualEnergy", "SCS_ILH_LAS/MOTOR/LT3/actualPosition")
COLUMNS = [f"{IMAGE}/{name}" for name in ("trainId", "pulseId", "cellId")]
OF_DETECTOR = [f"{IMAGE}/data", *COLUMNS, "INDEX/trainId", "INDEX/flag", f"{COUNTS}/first", f"{COUNTS}/count"]
OF_CONTROL = [
    *(f"CONTROL/{name}/value" for name in SLOW),
    *(f"INDEX/{name.rpartition('/')[0]}/{column}" for name in SLOW for column in ("first", "count")),
    *("INDEX/trainId", "INDEX/flag", "METADATA/dataSources/dataSourceId", "METADATA/dataFormatVersion"),
    "CONTROL/SCS_RR_UTC/MDL/BUNCH_DECODER/sase3/pulseIds/value",
    "CONTROL/SCS_RR_UTC/MDL/BUNCH_DECODER/sase3/nPulses/value",
    "INSTRUMENT/SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern/data/bunchPatternTable",
    "INSTRUMENT/SCS_BLU_XGM/XGM/DOOCS:output/data/intensitySa3TD",
    "INSTRUMENT/SA3_XTD10_DOOCS/BAM/LCAT1932M_TL:output/data/absoluteTD",
    *(f"INDEX/SCS_BLU_XGM/XGM/DOOCS:output/data/{column}" for column in ("first", "count")),
]
MANY = 10**9


@dataclass
class Case:
    """One damaged session: `raw` holds links to the files of the sound one, except where they were damaged."""

    seed: int
    raw: Path
    run: int = 0
    meanwhile: list[tuple[str, int, Callable[[], object]]] = field(default_factory=list)
    """Stage, run and what happens before it."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng([17, abs(self.seed)])
        self.kind = list(KINDS)[self.seed % len(KINDS)] if self.seed >= 0 else "silent"
        self.run = int(self.random.choice([1, 2, 3, 3, 4, 4, 5, 5]))

    @property
    def folder(self) -> Path:
        """Folder of the run that is damaged."""
        return self.raw / f"r{self.run:04d}"

    def damage(self) -> str:
        """Damage the run; returns what was done."""
        return f"run {self.run}: {self.kind}: {DAMAGE[self.kind](self)}"

    def pick(self, *choices):
        """Return one of some things."""
        return choices[int(self.random.integers(len(choices)))]

    def file(self, pattern: str = "*") -> Path:
        """Return a file of the run that may be written to."""
        path = self.pick(*sorted(self.folder.glob(f"{pattern}.h5")))
        own = path.with_suffix(".own")
        shutil.copyfile(path, own)
        own.replace(path)
        return path

    def dataset(self) -> tuple[Path, str]:
        """Return a file and the name of a dataset in it that matters."""
        if self.random.random() < 0.6:
            return self.file("*DSSC*"), self.pick(*OF_DETECTOR)
        return self.file("*DA01*"), self.pick(*OF_CONTROL)

    def some(self, n: int) -> np.ndarray:
        """Return which of n rows: one, a few, or all."""
        return np.sort(self.random.choice(n, self.pick(1, max(n // 3, 1), n), replace=False))


def replace(file: h5py.File, name: str, values: np.ndarray, **options) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


def never_written(case: Case) -> str:
    path, name = case.file("*DSSC*"), f"{IMAGE}/data"
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        kept = case.pick(0.0, 0.5, 0.5, 0.9) > (
            case.random.random(len(old)) if case.random.random() < 0.5 else np.arange(len(old)) / len(old)
        )
        del file[name]
        new = file.create_dataset(
            name, old.shape, old.dtype, chunks=(1, *old.shape[1:]), maxshape=(None, *old.shape[1:])
        )
        for row in np.flatnonzero(kept):
            new[row] = old[row]
    return f"{path.name}: {int(kept.sum())} of {len(kept)} frames written"


def missing(case: Case) -> str:
    path, name = case.dataset()
    for _ in range(case.pick(0, 0, 0, 1, 2)):
        name = name.rpartition("/")[0] or name
    with h5py.File(path, "r+") as file:
        del file[name]
    return f"{path.name}: no {name}"


def other_length(case: Case) -> str:
    path, name = case.dataset()
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        n = case.pick(0, 1, len(old) // 2, max(len(old) - 1, 0), len(old) + 1, 3 * len(old))
        replace(file, name, np.resize(old, (n, *old.shape[1:])))
    return f"{path.name}: {name} has {n} of {len(old)} rows"


def other_type(case: Case) -> str:
    path, name = case.dataset()
    kind = case.pick("f4", "f8", "f2", "i1", "i8", "u1", "u8", "S8", "?", "c16", ">u2", ">f8", "record", "text")
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        if old.dtype.kind == "O":
            old = np.arange(len(old))
        if kind == "record":
            new = np.zeros(old.shape, [("a", "i4"), ("b", "f8")])
        elif kind == "text":
            new = np.full(old.shape[:1], "nothing", h5py.string_dtype())
        else:
            with np.errstate(all="ignore"):
                new = old.astype(kind)
        replace(file, name, new)
    return f"{path.name}: {name} is {kind}"


def other_shape(case: Case) -> str:
    path, name = case.dataset()
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        how = case.pick("flat", "axis", "number", "empty", "narrow", "wide")
        new = {
            "flat": lambda: old.reshape(-1),
            "axis": lambda: old[..., None],
            "number": lambda: old.reshape(-1)[0],
            "empty": lambda: h5py.Empty(old.dtype),
            "narrow": lambda: old[..., :1],
            "wide": lambda: np.stack([old, old], axis=-1).reshape(*old.shape[:-1], -1) if old.ndim > 1 else old[None],
        }[how]()
        replace(file, name, new)
    return f"{path.name}: {name} is {how}"


def other_object(case: Case) -> str:
    path, name = case.dataset()
    for _ in range(case.pick(0, 0, 1)):
        name = name.rpartition("/")[0] or name
    how = case.pick("group", "dangling", "loop", "external", "type", "dataset")
    with h5py.File(path, "r+") as file:
        del file[name]
        if how == "group":
            file.create_group(name)
        elif how == "dangling":
            file[name] = h5py.SoftLink("/nowhere")
        elif how == "loop":
            file[name] = h5py.SoftLink(f"/{name}")
        elif how == "external":
            file[name] = h5py.ExternalLink("nowhere.h5", "/nothing")
        elif how == "type":
            file[name] = np.dtype("f8")
        else:
            file[name] = np.arange(4)
    return f"{path.name}: {name} is a {how}"


def no_file(case: Case) -> str:
    path = case.pick(*sorted(case.folder.glob("*.h5")))
    if case.random.random() < 0.5:
        path = path.with_name(path.name.replace("S0000", "S0010"))
    else:
        path.unlink()
    how = case.pick("folder", "dangling", "loop", "fifo", "socket", "empty", "text", "device")
    if how == "folder":
        path.mkdir()
    elif how == "dangling":
        path.symlink_to("nowhere.h5")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(path.parent)  # names of sockets are short
            one.bind(path.name)
            os.chdir(here)
    elif how == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"" if how == "empty" else b"\x89HDF\r\n\x1a\nnothing of the kind")
    return f"{path.name} is a {how}"


def truncated(case: Case) -> str:
    path = case.file()
    size = path.stat().st_size
    kept = case.pick(0, 1, 100, 3000, size // 2, size - 1, int(case.random.integers(size)))
    os.truncate(path, kept)
    return f"{path.name}: {kept} of {size} bytes"


def _metadata(path: Path) -> np.ndarray:
    """Return the bytes that hold no values."""
    free = np.ones(path.stat().st_size, bool)

    def blank(name: str, found: object) -> None:
        if isinstance(found, h5py.Dataset) and found.id.get_storage_size():
            if found.chunks is None:
                start = found.id.get_offset()
                if start is not None:
                    free[start : start + found.id.get_storage_size()] = False
            else:
                for i in range(found.id.get_num_chunks()):
                    chunk = found.id.get_chunk_info(i)
                    free[chunk.byte_offset : chunk.byte_offset + chunk.size] = False

    with h5py.File(path) as file:
        file.visititems(blank)
    return np.flatnonzero(free)


def flipped(case: Case) -> str:
    path = case.file()
    where = _metadata(path)
    chosen = case.random.choice(where, case.pick(1, 1, 10, 100))
    with path.open("r+b") as file:
        for place in chosen.tolist():
            file.seek(place)
            old = file.read(1)
            file.seek(place)
            file.write(bytes([old[0] ^ int(case.random.integers(1, 256))]))
    return f"{path.name}: bytes {chosen[:4].tolist()} of the metadata changed"


def overwritten(case: Case) -> str:
    path = case.file()
    where = _metadata(path)
    start = int(case.random.choice(where))
    n = case.pick(8, 64, 512)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(n) if case.random.random() < 0.5 else case.random.bytes(n))
    return f"{path.name}: {n} bytes from {start} on overwritten"


def attributes(case: Case) -> str:
    path, name = case.dataset()
    with h5py.File(path, "r+") as file:
        attrs = file[name].attrs
        for key in list(attrs):
            del attrs[key]
        for key in ("unitSymbol", "metricPrefixSymbol", "unitName", "alias", "_FillValue", "scale_factor", "CLASS"):
            attrs[key] = case.pick("parsec", np.nan, np.arange(3), b"\xff\xfe", h5py.Empty("f8"))
    return f"{path.name}: attributes of {name}"


def declared(case: Case) -> str:
    how = case.pick("data", "columns", "all", "trains", "count", "slow")
    path = case.file("*DA01*" if how == "slow" else "*DSSC*")
    with h5py.File(path, "r+") as file:
        if how in ("data", "all"):
            file[f"{IMAGE}/data"].resize(MANY, axis=0)
        if how in ("columns", "all"):
            for name in COLUMNS:
                file[name].resize(MANY, axis=0)
        if how in ("count", "all"):
            file[f"{COUNTS}/count"][case.some(len(file[f"{COUNTS}/count"]))] = MANY
        names = {"trains": ["INDEX/trainId", f"{COUNTS}/count"], "slow": [f"CONTROL/{n}/value" for n in SLOW]}
        for name in names.get(how, []):
            old = file[name][()]
            del file[name]
            new = file.create_dataset(name, (MANY,), old.dtype, chunks=(4096,), maxshape=(None,))
            new[: len(old)] = old
    return f"{path.name}: {how} declare {MANY} rows"


def train_ids(case: Case) -> str:
    path = case.file()
    names = ["INDEX/trainId"] + ([f"{IMAGE}/trainId"] if "DSSC" in path.name else [])
    how = case.pick("twice", "zero", "huge", "shuffled", "constant", "next")
    with h5py.File(path, "r+") as file:
        for name in names if case.random.random() < 0.5 else [case.pick(*names)]:
            ids = file[name][()]
            rows = case.some(len(ids))
            if how == "twice":
                ids[rows] = ids[rows - 1]
            elif how == "zero":
                ids[rows] = 0
            elif how == "huge":
                ids[rows] = 2**64 - 1
            elif how == "shuffled":
                case.random.shuffle(ids)
            elif how == "constant":
                ids[...] = ids[0]
            else:
                ids += 1
            file[name][...] = ids
    return f"{path.name}: {how} in {', '.join(names)}"


def strange_values(case: Case) -> str:
    path, name = case.file("*DA01*"), f"CONTROL/{case.pick(*SLOW)}/value"
    value = case.pick(np.nan, np.inf, -np.inf, -1e30, 1e300, 0.0, 1e9)
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        values[case.some(len(values))] = value
        file[name][...] = values
    return f"{path.name}: {name} holds {value}"


def ids_of_frames(case: Case) -> str:
    path, name = case.file("*DSSC*"), f"{IMAGE}/{case.pick('pulseId', 'cellId')}"
    how = case.pick("constant", "random", "huge", "swapped", "next")
    with h5py.File(path, "r+") as file:
        ids = file[name][()]
        rows = case.some(len(ids))
        if how == "constant":
            ids[...] = ids[0]
        elif how == "random":
            ids[rows] = case.random.integers(0, np.iinfo(ids.dtype).max, ids[rows].shape, ids.dtype)
        elif how == "huge":
            ids[rows] = np.iinfo(ids.dtype).max
        elif how == "swapped":
            ids[...] = ids[::-1]
        else:
            ids += 1
        file[name][...] = ids
    return f"{path.name}: {name} {how}"


def head(case: Case) -> str:
    path = case.file()
    how = case.pick("version", "no version", "old version", "sources", "not a source", "undecodable", "no sources")
    with h5py.File(path, "r+") as file:
        sources = file["METADATA/dataSources/dataSourceId"][()]
        if how in ("version", "old version"):
            replace(file, "METADATA/dataFormatVersion", np.array([b"99.9" if how == "version" else b"0.5"]))
        elif how == "no version":
            del file["METADATA/dataFormatVersion"]
        elif how == "no sources":
            del file["METADATA/dataSources"]
        else:
            name = {"sources": b"CONTROL/NOWHERE", "not a source": b"NONSENSE", "undecodable": b"\xff\xfe/\x80"}[how]
            replace(file, "METADATA/dataSources/dataSourceId", np.array([*(bytes(s) for s in sources), name], "S99"))
    return f"{path.name}: {how}"


def sequences(case: Case) -> str:
    path = case.file()
    how = case.pick("twice", "gone", "of another run", "renamed", "number", "corrected")
    if how == "twice":
        shutil.copy(path, path.with_name(path.name.replace("S0000", "S0007")))
    elif how == "gone":
        path.unlink()
    elif how == "of another run":
        other = case.pick(*(r for r in (1, 2, 3, 4, 5) if r != case.run))
        found = case.pick(*sorted((case.raw / f"r{other:04d}").glob(f"*{path.name[10:14]}*.h5")))
        shutil.copy(found, path.with_name(path.name.replace("S0000", "S0007")))
    elif how == "renamed":
        path.rename(path.with_name("frames.h5"))
    elif how == "number":
        path.rename(path.with_name(path.name.replace("S0000", "S9999")))
    else:
        path.rename(path.with_name(path.name.replace("RAW", "CORR")))
    return f"{path.name}: {how}"


def index_values(case: Case) -> str:
    path, name = case.file("*DSSC*"), f"{COUNTS}/{case.pick('first', 'count')}"
    how = case.pick("random", "zero", "huge", "one less", "one more")
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        rows = case.some(len(values))
        if how == "random":
            values[rows] = case.random.integers(0, 2**63, len(rows), np.uint64)
        elif how == "huge":
            values[rows] = 2**64 - 1
        elif how == "zero":
            values[rows] = 0
        else:
            values[rows] += np.uint64(1) if how == "one more" else np.uint64(2**64 - 1)
        file[name][...] = values
    return f"{path.name}: {name} {how}"


def compressed(case: Case) -> str:
    path, name = case.file("*DSSC*"), f"{IMAGE}/data"
    with h5py.File(path, "r+") as file:
        replace(
            file, name, file[name][()], chunks=(1, 1, 128, 512), compression="gzip", compression_opts=1, shuffle=True
        )
        rows = case.some(len(file[name])) if case.random.random() < 0.7 else []
        for row in rows:
            file[name].id.write_direct_chunk((int(row), 0, 0, 0), case.random.bytes(1000))
    return f"{path.name}: compressed, {len(rows)} chunks broken"


def flags(case: Case) -> str:
    path = case.file()
    with h5py.File(path, "r+") as file:
        values = file["INDEX/flag"][()]
        values[case.some(len(values))] = case.pick(0, -1, 7)
        file["INDEX/flag"][...] = values
    return f"{path.name}: flags"


def meanwhile(case: Case) -> str:
    path = case.file()
    stage = case.pick("inventory", "calibration", "pulses", "labels")
    how = case.pick("vanishes", "replaced", "truncated", "written to", "folder gone")
    other = next(p for p in sorted(path.parent.parent.glob(f"*/*{path.name[10:16]}*.h5")) if p.parent != path.parent)

    def happen() -> None:
        if how == "folder gone":
            shutil.rmtree(path.parent)
        elif how == "vanishes":
            path.unlink()
        elif how == "replaced":
            copy = path.with_suffix(".new")
            shutil.copy(other, copy)
            copy.replace(path)
        elif how == "truncated":
            os.truncate(path, path.stat().st_size // 2)
        else:
            with path.open("r+b") as file:
                file.seek(-4096, os.SEEK_END)
                file.write(bytes(4096))

    case.meanwhile.append((stage, case.run, happen))
    return f"{path.name}: {how} before {stage}"


KINDS: dict[str, Callable[[Case], str]] = {
    f.__name__: f
    for f in (
        *(never_written, missing, other_length, other_type, other_shape, other_object, no_file, truncated, flipped),
        *(overwritten, attributes, declared, train_ids, strange_values, ids_of_frames, head, sequences, index_values),
        *(compressed, flags, meanwhile),
    )
}


def silent(case: Case) -> str:
    """Change numbers so that nothing can tell: what the harness itself must find."""
    case.run = 3
    with h5py.File(case.file("*DA01*"), "r+") as file:
        file[f"CONTROL/{SLOW[0]}/value"][...] += 0.1
    return "energies moved"


DAMAGE = KINDS | {"silent": silent}
