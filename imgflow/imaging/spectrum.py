"""The resolution that a photo's content really has, from the shape of its spectrum.

The power of photos falls with frequency like a power law (Field 1987, J. Opt. Soc. Am. A 4(12)).
A defocused photo has that law under a Gaussian. One that was blown up by a factor s has it up to
1/s of the Nyquist frequency only; from there on the law is repeated mirrored, as the spectrum of
every sampled signal is, under the response of the kernel that interpolated it (Keys 1981, IEEE
Trans. ASSP 29(6)): a steep drop, a dip, and often a little hump. Below both lies a floor, of noise
or of JPEG. All of these are drawn up as models, and held against the spectrum of the most textured
parts of a photo. Only where a blown-up model fits clearly better than any that is merely soft is a
photo called blown up: under strong noise or strong JPEG nothing tells the two apart. And only where
its pixels bear it out: reduced to that size and enlarged again, little of it is lost.

Calibrated on 44 photos reduced to their true resolution, so that at most 1 % of those sharp or
defocused (blur 0.7 to 2.5), bare, with JPEG of quality 40 to 92 or with noise of 1 and 3, are
wrongly found. Of photos blown up x2, x3, x4 and left bare this finds 100, 93, 95 % with OpenCV's
bicubic, 95, 80, 88 % with its Lanczos, 48, 57, 79 % with Pillow's bicubic, 86, 59, 49 % with its
Lanczos and 48, 100, 91 % with bilinear; the factor is right for 94 % and more (bilinear 76 %).
After JPEG of quality 92 it finds 34 to 79 % of OpenCV's, 5 to 64 % of Pillow's. Bicubic x1.5 is
found in 14 to 45 %. Pixels that were merely repeated: see `pixelated`.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.float32]
Spectrum = NDArray[np.float64]

_SIDE = 128  # pixels of a part's side: 64 frequencies
_PARTS = 16  # most textured parts that count, per direction
_FIRST = 3  # frequencies below say more of the subject than of sharpness
_SHARES = np.arange(_FIRST, _SIDE // 2) / (_SIDE / 2)  # of the Nyquist frequency
_FACTORS = (1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
_POWERS = np.arange(0.6, 3.3, 0.3)  # of the law that the spectrum falls by
_DEFOCUS = (0, 0.4, 0.6, 0.8, 1, 1.2, 1.5, 2, 2.5, 3)  # blurs of photos that are merely soft
_OWN_BLUR = (0, 0.6)  # of the small photo that was blown up, in its own pixels
_FLOORS = ((0.0, 0.0), *product((0.5, 0.8, 0.95, 1.0), (0.0, 0.5, 1.0)))  # height and slope
_LEAST_TEXTURE = 1.5  # mean step between neighbours, of 255
_CLEARLY = 1.9  # ratio of the errors of the two fits
_FIT_NOISE = 0.6  # dB**2 that any fit may be off by chance
_MOST_LOST = 0.6  # of the fine detail


def resolution(samples: list[Luma]) -> float:
    """Share of the nominal resolution, 0.25..1, that the content of a photo has.

    samples: (h, w) float32, 0..255, parts of a photo at full size. 1.0 too where they have no
    texture, or are smaller than 128 pixels.
    """
    spectrum = _spectrum(samples)
    if spectrum is None:
        return 1.0
    errors = _errors(spectrum)
    factors = _models()[1]
    soft = errors[factors == 1].min()
    best = int(np.argmin(errors))
    clear = (soft + _FIT_NOISE) / (errors[best] + _FIT_NOISE) > _CLEARLY
    factor = float(factors[best])
    return 1 / factor if clear and _lost(samples, factor) < _MOST_LOST else 1.0


def _spectrum(samples: list[Luma]) -> Spectrum | None:
    """Mean power of rows and columns in the most textured parts, at `_SHARES`."""
    parts = [
        luma[top : top + _SIDE, left : left + _SIDE]
        for luma in samples
        for top in range(0, luma.shape[0] - _SIDE + 1, _SIDE)
        for left in range(0, luma.shape[1] - _SIDE + 1, _SIDE)
    ]
    window = np.hanning(_SIDE).astype(np.float32)
    powers: list[Spectrum] = []
    for turned in ([part.T for part in parts], parts):
        texture = np.array([np.abs(np.diff(part[::2], axis=1)).mean() for part in turned])
        order = np.argsort(-texture, kind="stable")[:_PARTS]
        chosen = [turned[each] for each in order if texture[each] >= _LEAST_TEXTURE]
        if chosen:
            lines = np.stack(chosen)
            lines = (lines - lines.mean(axis=2, keepdims=True)) * window
            transformed = np.fft.rfft(lines, axis=2)
            power = np.square(transformed.real) + np.square(transformed.imag)
            powers.append(power.mean(axis=(0, 1), dtype=np.float64) / float(window @ window))
    return np.mean(powers, axis=0)[_FIRST : _SIDE // 2] if powers else None


def _errors(spectrum: Spectrum) -> Spectrum:
    """(models,) mean squared error in dB**2 of each model with the floor that suits it best."""
    models = _models()[0] * spectrum[:3].mean()
    lowest = np.sort(spectrum)[:6].mean()
    measured = _decibels(spectrum)
    errors = np.full(len(models), np.inf)
    for height, slope in _FLOORS:
        floor = height * lowest * _SHARES**-slope
        fits = np.square(measured - _decibels(models + floor)).mean(axis=1)
        np.minimum(errors, fits, out=errors)
    return errors


def _lost(samples: list[Luma], factor: float) -> float:
    """Share of the finest detail that goes when the photo is reduced by a factor.

    Photos of true resolution lose 0.70 and more of it, by all factors and after JPEG of quality 60;
    blown-up ones at most 0.36, after JPEG of quality 90 too (x1.5: 0.56).
    """
    lost = fine = 0.0
    for luma in samples:
        height, width = luma.shape
        size = (max(round(width / factor), 1), max(round(height / factor), 1))
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        again = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        lost += float(np.square(luma - again).sum())
        fine += float(np.square(luma - cv2.GaussianBlur(luma, (0, 0), factor / 2)).sum())
    return lost / fine if fine else 0.0


def _decibels(power: Spectrum) -> Spectrum:
    return 10 * np.log10(power + 1e-3)


@cache
def _models() -> tuple[Spectrum, Spectrum]:
    """(models, frequencies) spectra that begin at 1, and (models,) the factor of each, 1 = none."""
    spectra, factors = [], []
    for blur, power in product(_DEFOCUS, _POWERS):
        spectra.append(_SHARES**-power * np.exp(-np.square(blur * np.pi * _SHARES)))
        factors.append(1.0)
    for factor in _FACTORS:
        cycles = _SHARES * factor / 2  # per pixel of the small photo
        folded = np.maximum(np.abs(cycles - np.rint(cycles)), 0.75 / _SIDE * 2 * factor / 2)
        for kernel, blur, power in product(_KERNELS, _OWN_BLUR, _POWERS):
            own = folded**-power * np.exp(-np.square(blur * 2 * np.pi * folded))
            spectra.append(own * np.square(_response(kernel, cycles)))
            factors.append(factor)
    models = np.array(spectra)
    return models / models[:, :3].mean(axis=1, keepdims=True), np.array(factors)


_TAPS = np.arange(-256, 257) / 64


def _response(kernel: Spectrum, cycles: Spectrum) -> Spectrum:
    """Amplitude that a symmetric kernel leaves of each frequency, in cycles per source pixel."""
    waves = np.cos(2 * np.pi * cycles[:, None] * _TAPS)
    return np.asarray((kernel * waves).sum(axis=1) / kernel.sum())


def _linear(x: Spectrum) -> Spectrum:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: Spectrum, b: float, c: float) -> Spectrum:
    """Mitchell and Netravali 1988 (SIGGRAPH 22(4)); Keys' kernel where b = 0, with a = -c."""
    d = np.abs(x)
    near = (12 - 9 * b - 6 * c) * d**3 + (12 * b + 6 * c - 18) * d**2 + 6 - 2 * b
    far = -(b + 6 * c) * d**3 + (6 * b + 30 * c) * d**2 - (12 * b + 48 * c) * d + 8 * b + 24 * c
    return np.where(d <= 1, near, np.where(d < 2, far, 0)) / 6


def _lanczos(x: Spectrum, lobes: int) -> Spectrum:
    return np.where(np.abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0)


# What common programs enlarge with: bilinear, OpenCV's and Pillow's bicubic, ImageMagick's
# Mitchell, Lanczos of three lobes (Pillow, Photoshop's kind) and of four (OpenCV).
_KERNELS = (
    _linear(_TAPS),
    _cubic(_TAPS, 0, 0.75),
    _cubic(_TAPS, 0, 0.5),
    _cubic(_TAPS, 1 / 3, 1 / 3),
    _lanczos(_TAPS, 3),
    _lanczos(_TAPS, 4),
)
