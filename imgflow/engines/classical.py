"""Methods without weights: fills by diffusion, enlargement by interpolation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec
from imgflow.imaging.colour import data_range

# Any pixel that a diffusion fill reads lies within this many pixels of the hole.
_INPAINT_RADIUS = 3


class OpenCvFill:
    """Telea (2004, fast marching) or Navier-Stokes (Bertalmio, Bertozzi, Sapiro 2001)."""

    def __init__(self, name: str, model_id: str, method: int) -> None:
        self.spec = EngineSpec(
            name=name,
            kind="filler",
            model_id=model_id,
            licence="Apache-2.0",
            tiling="crop",
            dtypes=("uint8", "uint16"),
        )
        self._method = method

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        if pixels.dtype == np.uint8:
            return cv2.inpaint(np.ascontiguousarray(pixels), mask, _INPAINT_RADIUS, self._method)
        # OpenCV fills 16 bits one channel at a time only.
        planes = [
            cv2.inpaint(np.ascontiguousarray(plane), mask, _INPAINT_RADIUS, self._method)
            for plane in np.moveaxis(pixels, 2, 0)
        ]
        return np.stack(planes, axis=2)


class BiharmonicFill:
    """Biharmonic surface through the hole's rim (Damelin, Hoang 2018), by scikit-image.

    Smooth across large gaps, and slow: its time grows with the number of masked pixels.
    """

    spec = EngineSpec(
        name="biharmonic",
        kind="filler",
        model_id="biharmonic-skimage",
        licence="BSD-3-Clause",
        tiling="crop",
        dtypes=("uint8", "uint16"),
    )

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        from skimage.restoration import inpaint_biharmonic

        top = data_range(pixels.dtype)
        filled = inpaint_biharmonic(
            pixels.astype(np.float64) / top, mask > 0, split_into_regions=True, channel_axis=-1
        )
        return np.rint(np.clip(filled, 0, 1) * top).astype(pixels.dtype)


class Lanczos:
    """Lanczos interpolation (a = 4), held within the local range of its source.

    The clamp takes away the halos that a plain Lanczos kernel leaves beside edges: on a white
    product background they are what a customer sees first. Nothing is invented.
    """

    # 4 pixels of kernel and 1 of the clamp's neighbourhood.
    _RECEPTIVE = 5

    def __init__(self, scale: int) -> None:
        self.spec = EngineSpec(
            name="lanczos",
            kind="upscaler",
            model_id=f"lanczos4-clamped-x{scale}",
            licence="Apache-2.0",
            scale=scale,
            receptive=self._RECEPTIVE,
            tiling="tiles",
            dtypes=("float32",),
        )

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = tile.shape[:2]
        scale = self.spec.scale
        size = (width * scale, height * scale)
        large = cv2.resize(tile, size, interpolation=cv2.INTER_LANCZOS4)
        around = np.ones((3, 3), np.uint8)
        low = cv2.resize(cv2.erode(tile, around), size, interpolation=cv2.INTER_NEAREST)
        high = cv2.resize(cv2.dilate(tile, around), size, interpolation=cv2.INTER_NEAREST)
        clamped = np.clip(large, low, high).reshape(size[1], size[0], tile.shape[2])
        return np.asarray(clamped, np.float32)


class UnsharpMask:
    """Unsharp masking at the photo's own size, held within the local range of its source."""

    _SIGMA = 1.0
    _AMOUNT = 0.6

    spec = EngineSpec(
        name="unsharp",
        kind="upscaler",
        model_id="unsharp-s1.0-a0.6-clamped",
        licence="BSD-3-Clause",
        scale=1,
        receptive=5,
        tiling="tiles",
        dtypes=("float32",),
    )

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred = cv2.GaussianBlur(tile, (9, 9), self._SIGMA).reshape(tile.shape)
        sharp = tile + self._AMOUNT * (tile - blurred)
        around = np.ones((3, 3), np.uint8)
        low, high = cv2.erode(tile, around), cv2.dilate(tile, around)
        return np.clip(sharp, low.reshape(tile.shape), high.reshape(tile.shape))


class NonLocalMeans:
    """Non-local means (Buades, Coll, Morel 2005), in the fast form of Darbon et al. 2008 by
    scikit-image: each pixel is the mean of those whose surroundings look alike.

    strength: standard deviation of the noise, in levels of 255. At the photo's own size.
    """

    _PATCH = 5
    _DISTANCE = 6
    # Of the noise: what is left of it is preferred over detail that is lost.
    _SOFTNESS = 0.8

    def __init__(self, strength: int) -> None:
        if strength < 1:
            raise ValueError(f"the noise to take out must be at least 1 level, not {strength}")
        # The strength is a parameter that the record has: the method is the same for all.
        self.spec = EngineSpec(
            name="nlmeans",
            kind="upscaler",
            model_id="nlmeans-skimage-p5-d6-h0.8",
            licence="BSD-3-Clause",
            scale=1,
            receptive=self._DISTANCE + self._PATCH // 2 + 1,
            tiling="tiles",
            dtypes=("float32",),
        )
        self._sigma = strength / 255

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        from skimage.restoration import denoise_nl_means

        clean = denoise_nl_means(
            tile,
            patch_size=self._PATCH,
            patch_distance=self._DISTANCE,
            h=self._SOFTNESS * self._sigma,
            sigma=self._sigma,
            fast_mode=True,
            channel_axis=-1,
        )
        return np.asarray(clean, np.float32)
