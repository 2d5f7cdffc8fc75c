"""Full-reference measures of image quality, each with its range and direction as data.

Images are (H, W) or (H, W, 3), uint8 or uint16, without alpha. Photos are read in bands of rows,
so that a measure of 48 megapixels holds a few megabytes of floats; the result is that of the
whole image. Every measure raises ValueError, naming both shapes, when the two images differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Plane = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means: its name, which way is better, and between what bounds it lies."""

    name: str
    better: Literal["higher", "lower"]
    lowest: float
    highest: float
    """May be infinite."""

    unit: str
    """Empty for a plain ratio."""

    source: str

    def passes(self, value: float, threshold: float) -> bool:
        """Whether a value is at least as good as the threshold; NaN never is."""
        return bool(value >= threshold if self.better == "higher" else value <= threshold)


PSNR = Metric("psnr", "higher", 0, np.inf, "dB", "peak signal-to-noise ratio, ISO/IEC 29170-1")
SSIM = Metric(
    "ssim", "higher", -1, 1, "", "Wang, Bovik, Sheikh, Simoncelli 2004, IEEE TIP 13(4):600-612"
)
HAARPSI = Metric(
    "haarpsi",
    "higher",
    0,
    1,
    "",
    "Reisenhofer, Bosse, Kutyniok, Wiegand 2018, Signal Process. Image Commun. 61:33-43",
)
EDGE_CONTINUITY = Metric(
    "edge_continuity", "lower", 0, np.inf, "", "imgflow.imaging.metrics.edge_continuity"
)
HALO = Metric("halo", "lower", 0, 1, "", "imgflow.imaging.metrics.halo_score")
EDGE_FIDELITY = Metric(
    "edge_fidelity", "higher", 0, 1, "", "imgflow.imaging.enlarged.edge_fidelity"
)
ARTIFACT_RATE = Metric("artifact_rate", "lower", 0, 1, "", "imgflow.imaging.enlarged.artifact_rate")
LPIPS = Metric(
    "lpips", "lower", 0, np.inf, "", "Zhang, Isola, Efros, Shechtman, Wang 2018, CVPR, v0.1 AlexNet"
)
METRICS = {
    metric.name: metric
    for metric in (
        PSNR,
        SSIM,
        HAARPSI,
        EDGE_CONTINUITY,
        HALO,
        EDGE_FIDELITY,
        ARTIFACT_RATE,
        LPIPS,
    )
}

_BAND = 256  # rows
_HAAR_C = np.float32(30)
_HAAR_ALPHA = 4.2
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def psnr(
    reference: Pixels, test: Pixels, *, data_range: float, mask: NDArray[np.uint8] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB over all channels; infinite for equal images.

    data_range: the largest possible difference, 255 or 65535.
    mask: (H, W); only pixels where it is not zero are compared. ValueError if that is none.
    """
    _require_alike(reference, test)
    count = reference.size
    if mask is not None:
        if mask.shape != reference.shape[:2]:
            raise ValueError(f"mask {mask.shape} does not fit an image {reference.shape}")
        channels = reference.size // mask.size
        count = int(np.count_nonzero(mask)) * channels
        if count == 0:
            raise ValueError("the mask selects no pixel to compare")
    squares = cv2.norm(reference, test, cv2.NORM_L2SQR, mask)
    return float(10 * np.log10(data_range**2 * count / squares)) if squares else float("inf")


def ssim(reference: Pixels, test: Pixels, *, data_range: float) -> float:
    """Mean structural similarity of the luma, with the Gaussian window of the paper.

    The window is 11 pixels wide, sigma 1.5, and is used where it fits whole. Images of less
    than 11 pixels a side are continued to 11 by mirroring first.
    """
    _require_alike(reference, test)
    radius = 5
    size = 2 * radius + 1
    reference, test = _at_least(reference, size), _at_least(test, size)
    height, width = reference.shape[:2]
    total = 0.0
    for start, stop in _bands(height - 2 * radius, _BAND):
        rows = slice(start, stop + 2 * radius)
        x = _luma(reference[rows]) / np.float32(data_range)
        y = _luma(test[rows]) / np.float32(data_range)
        similarity = _ssim_map(x, y, size)[radius:-radius, radius:-radius]
        total += float(similarity.sum(dtype=np.float64))
    return float(total / ((height - 2 * radius) * (width - 2 * radius)))


def _ssim_map(x: Plane, y: Plane, size: int) -> Plane:
    c1, c2 = 0.01**2, 0.03**2

    def local_mean(values: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(values, (size, size), 1.5), np.float32)

    mean_x, mean_y = local_mean(x), local_mean(y)
    # A variance does not depend on the origin; the middle grey loses the fewest digits.
    x, y = x - np.float32(0.5), y - np.float32(0.5)
    shifted_x, shifted_y = mean_x - np.float32(0.5), mean_y - np.float32(0.5)
    covariance = local_mean(x * y) - shifted_x * shifted_y
    variances = local_mean(x * x + y * y) - shifted_x**2 - shifted_y**2
    means = 2 * mean_x * mean_y + c1
    similarity = means * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return np.asarray(similarity, np.float32)


def haarpsi(reference: Pixels, test: Pixels, *, data_range: float) -> float:
    """Haar wavelet-based perceptual similarity, 0..1, with the constants of the paper.

    Colour images are compared in YIQ with chroma, (H, W) images without. Images of less than 16
    pixels a side (one coarsest wavelet after halving) are continued to 16 by mirroring first.
    """
    _require_alike(reference, test)
    reference, test = _at_least(reference, 16), _at_least(test, 16)
    halo = 4  # the coarsest wavelet is 8 samples wide
    height = (reference.shape[0] + 1) // 2
    weighted = total = 0.0
    for start, stop in _bands(height, _BAND):
        first, last = max(start - halo, 0), min(stop + halo, height)
        x = _halved_yiq(reference[2 * first : 2 * last], data_range)
        y = _halved_yiq(test[2 * first : 2 * last], data_range)
        inside = slice(start - first, stop - first)
        for similarity, weight in _haar_similarities(x, y):
            activity = 1 / (1 + np.exp(-_HAAR_ALPHA * similarity[inside]))
            weighted += float((activity * weight[inside]).sum(dtype=np.float64))
            total += float(weight[inside].sum(dtype=np.float64))
    if total == 0:
        return 1.0  # both images are black: equal
    mean = weighted / total
    # Float32 sums may pass 1 by a few parts in ten million.
    return min(float((np.log(mean / (1 - mean)) / _HAAR_ALPHA) ** 2), 1.0)


def _halved_yiq(band: Pixels, data_range: float) -> list[Plane]:
    """Planes in 0..255 units at half the size: Y, and I and Q of a colour image."""
    values = band.astype(np.float32) * np.float32(255 / data_range)
    if band.ndim == 3:
        values = np.asarray(cv2.transform(values, _YIQ), np.float32)
    height, width = band.shape[:2]
    # Zeros outside the image, here and below, are what the published implementation takes.
    odd = [(0, height % 2), (0, width % 2), (0, 0)][: band.ndim]
    values = np.pad(values, odd)
    means = (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4
    return [means] if band.ndim == 2 else list(np.moveaxis(means, 2, 0).copy())


def _haar_similarities(x: list[Plane], y: list[Plane]) -> Iterator[tuple[Plane, Plane]]:
    """Similarity and weight of vertical and horizontal detail, then of chroma."""
    weights = []
    for upright in (True, False):
        fine = [
            _similar(_haar(x[0], scale, upright), _haar(y[0], scale, upright)) for scale in (1, 2)
        ]
        weight = np.maximum(_haar(x[0], 3, upright), _haar(y[0], 3, upright))
        weights.append(weight)
        yield np.mean(fine, axis=0), weight
    if len(x) == 3:
        chroma = [_similar(_box(a), _box(b)) for a, b in zip(x[1:], y[1:], strict=True)]
        yield np.mean(chroma, axis=0), (weights[0] + weights[1]) / np.float32(2)


def _haar(plane: Plane, scale: int, upright: bool) -> Plane:
    """Magnitude of one Haar wavelet response."""
    size = 2**scale
    flat = np.ones(size, np.float32)
    step = np.repeat(np.array([-1, 1], np.float32) / np.float32(size), size // 2)
    along, across = (flat, step) if upright else (step, flat)
    return np.abs(_filter(plane, along, across))


def _box(plane: Plane) -> Plane:
    half = np.full(2, 0.5, np.float32)
    return np.abs(_filter(plane, half, half))


def _filter(plane: Plane, along: Plane, across: Plane) -> Plane:
    anchor = (len(along) // 2 - 1,) * 2
    border = cv2.BORDER_CONSTANT
    return np.asarray(
        cv2.sepFilter2D(plane, -1, along, across, anchor=anchor, borderType=border), np.float32
    )


def _similar(x: Plane, y: Plane) -> Plane:
    return (2 * x * y + _HAAR_C) / (x * x + y * y + _HAAR_C)


def downscale_area(pixels: Pixels, scale: int) -> Pixels:
    """Mean of every scale x scale block, rounded: (H, W[, C]) -> (H / scale, W / scale[, C]).

    ValueError unless both sides are multiples of `scale`.
    """
    height, width = pixels.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{height} x {width} pixels cannot be divided by {scale}")
    size = (width // scale, height // scale)
    smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, pixels.dtype).reshape(*size[::-1], *pixels.shape[2:])


def halo_score(upscaled: Pixels, source: Pixels, scale: int) -> float:
    """How far an enlargement overshoots its source, 0 (not at all) to 1 (from black to white).

    A pixel overshoots by what it lies outside the smallest and largest value of its channel in
    the 3 x 3 source pixels around its origin. The score is the overshoot that one sample in a
    thousand exceeds, as a part of the dtype's range. Detail that is finer than the source's pixels
    overshoots them as halos do: of a sharp enlargement, score what it is when made small again.

    upscaled: (H * scale, W * scale[, 3]), the dtype of `source`. ValueError otherwise.
    """
    require_enlargement(upscaled, source, scale)
    height, width = source.shape[:2]
    highest = np.iinfo(source.dtype).max
    counts = np.zeros(highest + 1, np.int64)
    around = np.ones((3, 3), np.uint8)
    for start, stop in _bands(height, max(_BAND // scale, 1)):
        first, last = max(start - 1, 0), min(stop + 1, height)
        inside = slice(start - first, stop - first)
        lowest = cv2.erode(source[first:last], around)[inside]
        largest = cv2.dilate(source[first:last], around)[inside]
        size = (width * scale, (stop - start) * scale)
        lowest = cv2.resize(lowest, size, interpolation=cv2.INTER_NEAREST)
        largest = cv2.resize(largest, size, interpolation=cv2.INTER_NEAREST)
        band = upscaled[start * scale : stop * scale].reshape(lowest.shape)
        # Saturating differences: at most one of them is not zero.
        overshoot = cv2.subtract(band, largest) + cv2.subtract(lowest, band)
        counts += np.bincount(overshoot.ravel(), minlength=highest + 1)
    rank = np.searchsorted(np.cumsum(counts), 0.999 * upscaled.size)
    return float(rank / highest)


def edge_continuity(pixels: Pixels, mask: NDArray[np.uint8], *, data_range: float) -> float:
    """How visible the joint of a fill is: about 1 when seamless, clearly more for a patch.

    The mean colour step between neighbouring pixels across the mask's border, over that between
    neighbours within 4 pixels of the border: inside the mask and outside it, half and half. Both
    count from a floor of 2/255, so that sensor noise on flat ground is no joint. Photos as taken
    and good fills lie near 1; a smooth fill in rough surroundings may come to 2.

    pixels: (H, W) or (H, W, 3); mask: (H, W), not zero where the fill is. ValueError if the
    mask does not fit, or has no border inside the photo (it is empty, or covers everything).
    """
    if mask.shape != pixels.shape[:2]:
        raise ValueError(f"mask {mask.shape} does not fit an image {pixels.shape}")
    reach = 4
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    filled = (mask > 0).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(filled)
    rows = slice(max(top - reach, 0), top + height + reach)
    columns = slice(max(left - reach, 0), left + width + reach)
    pixels, filled = pixels[rows, columns], filled[rows, columns]
    # 1 outside, 2 inside the border, 0 farther away: the sum over two neighbours tells the pair.
    near = cv2.dilate(filled, around) - cv2.erode(filled, around)
    side = near * (1 + filled)
    steps, pairs = np.zeros(5), np.zeros(5)
    for start, stop in _bands(pixels.shape[0], _BAND):
        # One row more, to pair the last one with the first of the next band.
        values = pixels[start : stop + 1].astype(np.float32) / np.float32(data_range)
        values = values.reshape(*values.shape[:2], -1)
        sides = side[start : stop + 1]
        own = stop - start
        for first, second in (
            (np.s_[:-1], np.s_[1:]),
            (np.s_[:own, :-1], np.s_[:own, 1:]),
        ):
            kind = np.where(
                (sides[first] > 0) & (sides[second] > 0), sides[first] + sides[second], 0
            )
            step = np.sqrt(np.square(values[second] - values[first]).mean(axis=2))
            steps += np.bincount(kind.ravel(), step.ravel(), 5)
            pairs += np.bincount(kind.ravel(), minlength=5)
    outside, across, inside = 2, 3, 4
    if pairs[across] == 0:
        raise ValueError("the mask has no border inside the photo")
    mean = steps / np.maximum(pairs, 1)
    # A stroke of one pixel has no pair inside; its surroundings then stand for both.
    rings = [mean[ring] for ring in (outside, inside) if pairs[ring]]
    floor = 2 / 255
    return float((mean[across] + floor) / (np.mean(rings) + floor)) if rings else 1.0


def require_enlargement(upscaled: Pixels, source: Pixels, scale: int) -> None:
    """Raises ValueError unless `upscaled` has the size of `source` times `scale`, and its dtype."""
    height, width = source.shape[:2]
    expected = (height * scale, width * scale, *source.shape[2:])
    if upscaled.shape != expected or upscaled.dtype != source.dtype:
        raise ValueError(
            f"{upscaled.shape} {upscaled.dtype} is not {source.shape} {source.dtype} x {scale}"
        )


def _require_alike(reference: Pixels, test: Pixels) -> None:
    if reference.shape != test.shape or reference.dtype != test.dtype:
        raise ValueError(
            f"cannot compare {reference.shape} {reference.dtype} with {test.shape} {test.dtype}"
        )
    if reference.ndim != 2 and reference.shape[2:] != (3,):
        raise ValueError(f"expected (H, W) or (H, W, 3) without alpha, not {reference.shape}")


def _bands(height: int, rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _at_least(pixels: Pixels, size: int) -> Pixels:
    missing = [(0, max(size - side, 0)) for side in pixels.shape[:2]]
    if not any(after for _, after in missing):
        return pixels
    return np.pad(pixels, [*missing, *[(0, 0)] * (pixels.ndim - 2)], mode="symmetric")


def _luma(band: Pixels) -> Plane:
    values = band.astype(np.float32)
    return values if band.ndim == 2 else np.asarray(cv2.transform(values, _LUMA[None]), np.float32)
