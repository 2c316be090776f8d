"""Find the patches that the zone plate throws on the module."""

import numpy as np
import xarray as xr
from scipy import ndimage

from pipeline.errors import ConfigError, DataError
from schemas.datasets.calibration import BEAMS

__all__ = ["beam_dataset", "find_beams"]

_SMOOTHING = 1.0  # pixels, Gaussian sigma
_MIN_AREA = 30  # pixels
_LEVELS_PER_DECADE = 16
_STAND_OUT = 0.6  # structure inside beams has at most this share of the (logarithmic) depth of the beams
_EDGE = 0.04  # of a patch's level: where it ends
_MARGIN = 2  # pixels added around it
_DISTINCT = 1.7  # two patches are two when the valley between them is lower than the weaker one by this factor


def find_beams(image: xr.DataArray, *, bad: xr.DataArray | None = None, count: int | None = None) -> xr.Dataset:
    """Find the bright patches on a mean image, two or three of them.

    The threshold is lowered in small steps from the maximum to the noise. A patch is born when a region of at least
    30 pixels rises above it, and counts as distinct when its level is 1.7 times that of the valley to its neighbour:
    a weak beam is found at its own level, uneven light does not split a beam (deeper structure inside beams is accepted
    where the beams clearly stand out from it). Hot pixels are removed by a median
    filter first. Each patch then extends down to a small fraction of its own level, as a rectangle that does
    not reach into its neighbour.

    Parameters
    ----------
    image : (y, x) mean dark-subtracted image, ADU, with coords y and x (module pixel numbers)
    bad : (y, x) bad-pixel flags, 0 is good
    count : number of beams expected; None: three where the third stands out as the others do, else two

    Returns
    -------
    dim beam, by increasing x then y: `x0`, `x1`, `y0`, `y1` i8, half-open module pixel numbers, and `level` f8, ADU.

    Raises
    ------
    DataError
        There are not as many patches; the message says how many, and how to give them by hand.
    """
    values, floor = _cleaned(image, bad)
    for expected in (3, 2) if count is None else (count,):
        markers, levels = _distinct_patches(values, floor, expected)
        if len(levels) == expected:
            break
    else:
        raise DataError(_wrong_number(image, markers, levels, count))
    boxes = _boxes(values, markers, levels, floor)
    y, x = image["y"].values.astype(np.int64), image["x"].values.astype(np.int64)
    found = [(int(x[b[2]]), int(x[b[3] - 1]) + 1, int(y[b[0]]), int(y[b[1] - 1]) + 1) for b in boxes]
    return beam_dataset(found, level=np.array(levels))


def beam_dataset(regions: list[tuple[int, int, int, int]], *, level: np.ndarray | None = None) -> xr.Dataset:
    """Beams from their corners (x0, x1, y0, y1), half-open module pixel numbers; by columns, then rows.

    Raises
    ------
    ConfigError
        A region is empty, or two overlap.
    """
    order = _reading_order(regions)
    for rank, i in enumerate(order):
        x0, x1, y0, y1 = regions[i]
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise ConfigError(f"beams: region {list(regions[i])} is empty; give [x0, x1, y0, y1] with x0 < x1, y0 < y1")
        for j in order[:rank]:
            u0, u1, v0, v1 = regions[j]
            if x0 < u1 and u0 < x1 and y0 < v1 and v0 < y1:
                raise ConfigError(f"beams: regions {list(regions[j])} and {list(regions[i])} overlap; draw them apart")
    corners = np.array([regions[i] for i in order], np.int64).reshape(-1, 4)
    beams = xr.Dataset({name: ("beam", corners[:, k]) for k, name in enumerate(("x0", "x1", "y0", "y1"))})
    if level is not None:
        beams["level"] = ("beam", level[order])
    return BEAMS.describe(beams)


def _reading_order(regions: list[tuple[int, int, int, int]]) -> list[int]:
    """Indices by increasing x, then y; beams above each other are one column even if their edges differ a little."""
    centre = [(r[0] + r[1]) / 2 for r in regions]
    near = float(np.median([r[1] - r[0] for r in regions])) / 4 if regions else 0.0
    by_x = sorted(range(len(regions)), key=lambda i: centre[i])
    column, number = {}, 0
    for k, i in enumerate(by_x):
        number += k > 0 and centre[i] - centre[by_x[k - 1]] > near
        column[i] = number
    return sorted(by_x, key=lambda i: (column[i], regions[i][2], centre[i]))


def _cleaned(image: xr.DataArray, bad: xr.DataArray | None) -> tuple[np.ndarray, float]:
    """Smooth image without bad and hot pixels, above its background; and the level below which all is noise."""
    values = image.values.astype(np.float64)
    good = np.isfinite(values)
    if bad is not None:
        xr.align(image, bad, join="exact", copy=False)
        good &= bad.values == 0
    if good.mean() < 0.5:
        raise DataError(f"only {good.mean():.0%} of the pixels are good: no beams can be found; check the dark run")
    nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    filled = ndimage.median_filter(values[tuple(nearest)], size=3, mode="nearest")
    smooth = ndimage.gaussian_filter(filled, _SMOOTHING, mode="nearest")
    # beams may cover nearly all of the module: the background is what the darkest hundredth shows
    background = float(np.median(smooth[smooth <= np.percentile(smooth, 1)]))
    dark = smooth <= np.percentile(smooth, 5)
    noise = 1.4826 * float(np.median(np.abs(filled - smooth)[dark]))
    smooth = smooth - background
    top = float(np.percentile(smooth, 99.9))
    return smooth, max(4 * noise, 5e-3 * top, 1e-6)


def _distinct_patches(values: np.ndarray, floor: float, count: int) -> tuple[np.ndarray, list[float]]:
    """Label image with one marker per patch, and the level of each (ADU), by the threshold coming down.

    The depth of a patch is its level over that of the valley to a stronger one (or over the floor). More than `count`
    patches of some depth are accepted as structure inside beams if the beams stand out from them.
    """
    markers = np.zeros(values.shape, np.int32)
    level_of, depth, absorbed = _merge_tree(values, floor, markers)
    ranked = sorted((m for m in depth if depth[m] >= _DISTINCT), key=lambda m: -depth[m])
    if len(ranked) > count and np.log(depth[ranked[count]]) < _STAND_OUT * np.log(depth[ranked[count - 1]]):
        ranked = ranked[:count]
    renumbered = np.zeros_like(markers)
    kept = sorted(ranked)
    for m in level_of:
        owner = m
        while owner not in ranked and owner in absorbed:
            owner = absorbed[owner]
        if owner in ranked:
            renumbered[markers == m] = kept.index(owner) + 1
    return renumbered, [level_of[m] for m in kept]


def _merge_tree(
    values: np.ndarray, floor: float, markers: np.ndarray
) -> tuple[dict[int, float], dict[int, float], dict[int, int]]:
    """Levels at which patches appear, their depths, and which patch took them up; fills `markers` with their cores."""
    level_of: dict[int, float] = {}
    depth: dict[int, float] = {}
    absorbed: dict[int, int] = {}
    top = float(values.max())
    if top <= _DISTINCT * floor:
        return level_of, depth, absorbed
    n_levels = int(np.ceil(np.log10(top / floor) * _LEVELS_PER_DECADE)) + 1
    for level in np.geomspace(top, floor, n_levels):
        labels, n = ndimage.label(values > level)
        area = np.bincount(labels.ravel(), minlength=n + 1)
        for k, inside in enumerate(_per_label(markers, labels, n), start=1):
            alive = [m for m in np.unique(inside[inside > 0]).tolist() if m not in absorbed]
            if not inside.any() and area[k] >= _MIN_AREA:
                name = len(level_of) + 1
                level_of[name] = float(level)
                markers[labels == k] = name
            for weak in sorted(alive, key=lambda m: -level_of[m])[1:]:
                strongest = max(alive, key=lambda m: level_of[m])
                depth[weak], absorbed[weak] = level_of[weak] / float(level), strongest
    for name, level in level_of.items():
        depth.setdefault(name, level / floor)
    return level_of, depth, absorbed


def _per_label(markers: np.ndarray, labels: np.ndarray, n: int) -> list[np.ndarray]:
    """The markers found inside each label."""
    slices = ndimage.find_objects(labels, max_label=n)
    return [markers[box][labels[box] == k] for k, box in enumerate(slices, start=1)]


def _boxes(
    values: np.ndarray, markers: np.ndarray, levels: list[float], floor: float
) -> list[tuple[int, int, int, int]]:
    """Half-open array boxes (y0, y1, x0, x1), one per marker, that do not overlap."""
    boxes = []
    for k, level in enumerate(levels, start=1):
        patch = _alone(values, markers, k, max(_EDGE * level, floor), level)
        rows, columns = np.nonzero(patch)
        y0, y1 = max(rows.min() - _MARGIN, 0), min(rows.max() + 1 + _MARGIN, values.shape[0])
        x0, x1 = max(columns.min() - _MARGIN, 0), min(columns.max() + 1 + _MARGIN, values.shape[1])
        boxes.append((int(y0), int(y1), int(x0), int(x1)))
    for i in range(len(boxes)):
        for j in range(i):
            boxes[i], boxes[j] = _parted(boxes[i], boxes[j], values)
    return boxes


def _alone(values: np.ndarray, markers: np.ndarray, k: int, edge: float, level: float) -> np.ndarray:
    """(y, x) bool: the region of patch `k` above the lowest threshold, from `edge` on, at which it has no neighbour."""
    for threshold in np.geomspace(edge, max(level, edge), 24):
        labels, _ = ndimage.label(values > threshold)
        own = np.bincount(labels[markers == k])
        own[0] = 0
        region = labels == own.argmax()
        if not np.setdiff1d(markers[region], (0, k)).size:
            return region
    return markers == k


def _parted(
    a: tuple[int, int, int, int], b: tuple[int, int, int, int], values: np.ndarray
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Both boxes, cut at the darkest line of the strip they share (along the axis in which they lie further apart)."""
    y0, y1, x0, x1 = max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3])
    if y0 >= y1 or x0 >= x1:
        return a, b
    apart_y, apart_x = abs((a[0] + a[1]) - (b[0] + b[1])), abs((a[2] + a[3]) - (b[2] + b[3]))
    if apart_x >= apart_y:
        cut = x0 + int(np.argmin(values[min(a[0], b[0]) : max(a[1], b[1]), x0:x1].sum(axis=0)))
        left, right = (a, b) if a[2] + a[3] < b[2] + b[3] else (b, a)
        left, right = (left[0], left[1], left[2], cut), (right[0], right[1], cut, right[3])
        return (left, right) if a[2] + a[3] < b[2] + b[3] else (right, left)
    cut = y0 + int(np.argmin(values[y0:y1, min(a[2], b[2]) : max(a[3], b[3])].sum(axis=1)))
    upper, lower = (a, b) if a[0] + a[1] < b[0] + b[1] else (b, a)
    upper, lower = (upper[0], cut, upper[2], upper[3]), (cut, lower[1], lower[2], lower[3])
    return (upper, lower) if a[0] + a[1] < b[0] + b[1] else (lower, upper)


def _wrong_number(image: xr.DataArray, markers: np.ndarray, levels: list[float], count: int | None) -> str:
    y, x = image["y"].values, image["x"].values
    where = [
        f"({x[int(cx)]}, {y[int(cy)]})"
        for cy, cx in ndimage.center_of_mass(np.ones(markers.shape), markers, range(1, len(levels) + 1))
    ]
    at = f" at (x, y) = {', '.join(where)}" if where else ""
    return (
        f"found {len(levels)} bright patches{at}, not {count or 'two or three'}; "
        "give the regions in the config, beams: {pumped: [x0, x1, y0, y1], ...}, or check the flat-field run"
    )
