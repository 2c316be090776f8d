"""EXDF 1.3 files, byte layout only: a detector module's file, frame block by block, and a control file.

Layout as in the facility's data format: every source has INDEX/<source>/{first,count} with one entry per
train; raw DSSC frames are uint16 (frame, 1, 128, 512), one chunk per frame, uncompressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameWriter", "control_file", "file_name", "module_file"]

_EPOCH = 1_767_225_600
"""Start of 2026 [s]: time stamps count from here, so that files do not depend on when they are written."""
_PROPOSAL = 900_000

U8 = NDArray[np.uint64]


def file_name(run: int, aggregator: str, sequence: int) -> str:
    """Return the name of a raw file."""
    return f"RAW-R{run:04d}-{aggregator}-S{sequence:05d}.h5"


@dataclass(frozen=True)
class FrameWriter:
    """Takes the frames of one file in order."""

    data: h5py.Dataset

    def write(self, first: int, frames: NDArray[np.uint16]) -> None:
        """Store frames (frame, y, x) from position `first` on."""
        # whole chunks as they are: no copy through the library's chunk cache
        for i, frame in enumerate(frames):
            self.data.id.write_direct_chunk((first + i, 0, 0, 0), frame)


@contextmanager
def module_file(
    path: Path,
    *,
    run: int,
    sequence: int,
    source: str,
    train_id: U8,
    count: U8,
    pulse_id: U8,
    cell_id: NDArray[np.uint16],
    pixels: tuple[int, int],
) -> Iterator[FrameWriter]:
    """Open a detector module's file for its frames; `count` (train) frames each, the rest (frame)."""
    with h5py.File(path, "w") as file:
        first = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.uint64)
        parts = {
            "image": (first, count),
            "header": (np.arange(train_id.size), np.ones(train_id.size, np.uint64)),
        }
        _frame_of_file(file, run, sequence, train_id, [f"INSTRUMENT/{source}/{part}" for part in parts])
        for part, (begin, n) in parts.items():
            _index(file, f"{source}/{part}", begin, n)
        image = file.create_group(f"INSTRUMENT/{source}/image")
        n_frames = int(count.sum())
        columns: dict[str, NDArray[Any]] = {
            "trainId": np.repeat(train_id, count.astype(np.int64)),
            "pulseId": pulse_id,
            "cellId": cell_id,
            "length": np.full(n_frames, pixels[0] * pixels[1] * 2, np.uint32),
            "status": np.zeros(n_frames, np.uint16),
        }
        for key, values in columns.items():
            rows = max(min(n_frames, 4096), 1)
            image.create_dataset(key, data=values[:, None], maxshape=(None, 1), chunks=(rows, 1))
        header = file.create_group(f"INSTRUMENT/{source}/header")
        header.create_dataset("trainId", data=train_id, maxshape=(None,))
        header.create_dataset("pulseCount", data=count, maxshape=(None,))
        yield FrameWriter(
            image.create_dataset(
                "data", (n_frames, 1, *pixels), "u2", maxshape=(None, 1, *pixels), chunks=(1, 1, *pixels)
            )
        )


def control_file(
    path: Path,
    *,
    run: int,
    sequence: int,
    train_id: U8,
    control: Mapping[str, Mapping[str, NDArray[Any]]],
    instrument: Mapping[str, Mapping[str, NDArray[Any]]],
    units: Mapping[str, tuple[str, str]],
) -> None:
    """Write slow and fast data: {source: {key: values (train, …)}}; fast keys are like `data.name`.

    `units` gives metric prefix and unit symbol by `source key`.
    """
    every = np.arange(train_id.size, dtype=np.uint64), np.ones(train_id.size, np.uint64)
    stamps = _stamps(train_id)
    groups = {s: sorted({k.split(".")[0] for k in keys}) for s, keys in instrument.items()}
    sources = [f"CONTROL/{s}" for s in control]
    sources += [f"INSTRUMENT/{s}/{g}" for s, names in groups.items() for g in names]
    with h5py.File(path, "w") as file:
        _frame_of_file(file, run, sequence, train_id, sources)
        for source, keys in control.items():
            _index(file, source, *every)
            for key, values in keys.items():
                for root, rows in (("CONTROL", slice(None)), ("RUN", slice(0, 1))):
                    group = file.create_group(f"{root}/{source}/{key.replace('.', '/')}")
                    value = _column(group, "value", values[rows])
                    _column(group, "timestamp", stamps[rows])
                    _unit(value, units.get(f"{source} {key}"))
        for source, keys in instrument.items():
            for name in groups[source]:
                _index(file, f"{source}/{name}", *every)
                _column(file.require_group(f"INSTRUMENT/{source}/{name}"), "trainId", train_id)
            for key, values in keys.items():
                value = _column(file, f"INSTRUMENT/{source}/{key.replace('.', '/')}", values)
                _unit(value, units.get(f"{source} {key}"))


def _frame_of_file(file: h5py.File, run: int, sequence: int, train_id: U8, sources: list[str]) -> None:
    """METADATA and the trains of the file."""
    text = h5py.string_dtype("ascii")
    names = file.create_group("METADATA/dataSources")
    roots, devices = zip(*(s.split("/", 1) for s in sources), strict=True)
    for key, column in {"dataSourceId": sources, "root": roots, "deviceId": devices}.items():
        names.create_dataset(key, data=np.array(column, dtype=object), dtype=text, maxshape=(None,))
    for key, value in {
        "dataFormatVersion": "1.3",
        "daqLibrary": "simulated",
        "karaboFramework": "simulated",
        "creationDate": "20260101T000000Z",
        "updateDate": "20260101T000000Z",
        "runType": "simulated",
        "sample": "simulated",
    }.items():
        file.create_dataset(f"METADATA/{key}", data=np.array([value], dtype=object), dtype=text)
    for key, number in {"proposalNumber": _PROPOSAL, "runNumber": run, "sequenceNumber": sequence}.items():
        file.create_dataset(f"METADATA/{key}", data=np.array([number], np.uint32))
    index = file.create_group("INDEX")
    _column(index, "trainId", train_id)
    _column(index, "timestamp", _stamps(train_id))
    _column(index, "flag", np.ones(train_id.size, np.int32))
    _column(index, "origin", np.full(train_id.size, -1, np.int32))


def _stamps(train_id: U8) -> U8:
    # 10 trains a second, in ns
    return (np.uint64(_EPOCH * 10**9) + (train_id % np.uint64(10**9)) * np.uint64(10**8)).astype(np.uint64)


def _index(file: h5py.File, source: str, first: NDArray[Any], count: NDArray[Any]) -> None:
    group = file.create_group(f"INDEX/{source}")
    _column(group, "first", np.asarray(first, np.uint64))
    _column(group, "count", np.asarray(count, np.uint64))


def _column(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    chunk = (max(1, min(len(values), 64 if values.ndim > 1 else 4096)), *values.shape[1:])
    return group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=chunk)


def _unit(dataset: h5py.Dataset, unit: tuple[str, str] | None) -> None:
    for name, symbol in zip(("metricPrefixSymbol", "unitSymbol"), unit or (), strict=False):
        dataset.attrs.create(name, symbol, dtype=h5py.string_dtype("ascii"))
