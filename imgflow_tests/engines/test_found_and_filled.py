"""Engines without weights: the logo finder, the joined detector, exemplar-based filling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from samples import encoded, photo

from imgflow.engines.account import accounting
from imgflow.engines.exemplar import ExemplarFill
from imgflow.engines.joined import JoinedDetector
from imgflow.engines.logo import LogoFinder
from imgflow.engines.spec import EngineSpec
from imgflow.lineage.record import TextRegion


def emblem(side: int = 160) -> np.ndarray:
    """A drawn emblem with enough corners to be known by."""
    picture = np.full((side, side, 3), 255, np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 2 - 6, (180, 30, 40), -1, cv2.LINE_AA)
    star = [
        (
            side / 2 + (side * (0.38 if n % 2 == 0 else 0.16)) * np.sin(np.pi * n / 5),
            side / 2 - (side * (0.38 if n % 2 == 0 else 0.16)) * np.cos(np.pi * n / 5),
        )
        for n in range(10)
    ]
    cv2.fillPoly(picture, [np.array(star, np.int32)], (250, 240, 200), cv2.LINE_AA)
    cv2.putText(
        picture,
        "ACME",
        (side // 5, side * 4 // 7),
        cv2.FONT_HERSHEY_DUPLEX,
        side / 170,
        (20, 40, 120),
        2,
        cv2.LINE_AA,
    )
    cv2.rectangle(picture, (side // 3, side * 5 // 7), (side * 2 // 3, side * 6 // 7), (0, 0, 0), 3)
    return picture


def placed(scene: np.ndarray, quad: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """The scene with the emblem on the corners of a quad, and the mask of where."""
    logo = emblem()
    side = logo.shape[0] - 1
    source = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float32)
    transform = cv2.getPerspectiveTransform(source, np.array(quad, np.float32))
    size = scene.shape[1::-1]
    drawn = cv2.warpPerspective(logo, transform, size, flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.full(logo.shape[:2], 255, np.uint8), transform, size)
    result = scene.copy()
    result[mask > 127] = drawn[mask > 127]
    return result, mask > 127


def finder(**fields: int) -> LogoFinder:
    return LogoFinder("logos", [encoded(emblem())], label="acme", min_matches=10, **fields)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    "quad",
    [
        pytest.param([(60, 60), (180, 60), (180, 180), (60, 180)], id="straight"),
        pytest.param([(120, 50), (190, 120), (120, 190), (50, 120)], id="turned"),
        pytest.param([(60, 60), (190, 85), (180, 170), (70, 200)], id="in-perspective"),
    ],
)
def test_a_logo_is_found_where_it_is(quad: list[tuple[float, float]]) -> None:
    scene, mask = placed(photo("coffee", 400), quad)
    (found,) = finder().propose(scene)
    assert found.label == "acme"
    assert found.confidence > 0.5
    assert overlap(found.mask > 0, mask) > 0.9


def test_each_copy_is_found() -> None:
    scene, _ = placed(photo("coffee", 420), [(20, 20), (130, 20), (130, 130), (20, 130)])
    scene, _ = placed(scene, [(250, 120), (380, 120), (380, 250), (250, 250)])
    assert len(finder().propose(scene)) == 2


@pytest.mark.parametrize("name", ["coffee", "chelsea", "astronaut", "rocket"])
def test_nothing_is_found_where_there_is_no_logo(name: str) -> None:
    assert finder().propose(photo(name, 400)) == []


def test_an_empty_photo_has_no_logo() -> None:
    assert finder().propose(np.full((100, 100, 3), 255, np.uint8)) == []


def test_a_picture_without_features_is_refused() -> None:
    plain = encoded(np.full((50, 50, 3), 200, np.uint8))
    with pytest.raises(ValueError, match="features"):
        LogoFinder("logos", [plain], label="x", min_matches=10)


def test_what_is_transparent_in_the_picture_is_not_proposed() -> None:
    logo = emblem()
    opaque = np.zeros(logo.shape[:2], np.uint8)
    cv2.circle(opaque, (80, 80), 74, 255, -1)
    cut = encoded(np.dstack([logo, opaque]))
    scene, mask = placed(photo("coffee", 400), [(60, 60), (180, 60), (180, 180), (60, 180)])
    (found,) = LogoFinder("logos", [cut], label="x", min_matches=10).propose(scene)
    assert (found.mask > 0).sum() < 0.9 * mask.sum()


def test_the_pictures_are_part_of_the_identity() -> None:
    other = LogoFinder("logos", [encoded(emblem(200))], label="acme", min_matches=10)
    assert finder().spec.code_version == finder().spec.code_version
    assert finder().spec.code_version != other.spec.code_version


# -- joined ------------------------------------------------------------------------------


class Told:
    def __init__(self, name: str, *regions: TextRegion) -> None:
        self.spec = EngineSpec(
            name=name,
            kind="text_detector",
            model_id=f"{name}-1",
            licence="MIT",
            weights_sha256=name[0] * 64,
        )
        self.regions = list(regions)

    def detect(self, pixels: np.ndarray) -> list[TextRegion]:
        return self.regions

    def read(self, line: np.ndarray) -> tuple[str, float]:
        return self.regions[0].text, self.regions[0].confidence


def region(left: int, top: int, text: str, confidence: float) -> TextRegion:
    corners = [(left, top), (left + 40, top), (left + 40, top + 10), (left, top + 10)]
    return TextRegion(
        polygon=[[float(x), float(y)] for x, y in corners], text=text, confidence=confidence
    )


def test_joined_findings_count_once_with_the_surer_reading() -> None:
    one = Told("a", region(0, 0, "SALE", 0.7), region(0, 50, "left", 0.8))
    two = Told("b", region(2, 1, "5ALE", 0.9), region(100, 50, "right", 0.6))
    found = JoinedDetector("both", [one, two]).detect(np.zeros((100, 200, 3), np.uint8))
    assert [each.text for each in found] == ["5ALE", "right", "left"] or [
        each.text for each in found
    ] == ["5ALE", "left", "right"]


def test_joined_detectors_read_as_the_surest_of_them_does() -> None:
    one, two = Told("a", region(0, 0, "SALE", 0.7)), Told("b", region(0, 0, "5ALE", 0.9))
    assert JoinedDetector("both", [one, two]).read(np.zeros((40, 90, 3), np.uint8)) == ("5ALE", 0.9)


def test_joined_names_all_models_and_their_weights() -> None:
    spec = JoinedDetector("both", [Told("a"), Told("b")]).spec
    assert spec.model_id == "a-1+b-1"
    changed = JoinedDetector("both", [Told("a"), Told("c")]).spec
    assert spec.weights_sha256 != changed.weights_sha256


# -- exemplars ---------------------------------------------------------------------------


def woven(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A cloth: threads with some chance in them."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    threads = 40 * np.sin(rows * 0.9) * np.sin(columns * 0.7)
    grey = 130 + threads + chance.normal(0, 12, (height, width))
    return np.clip(grey[:, :, None] + (10, 0, -20), 0, 255).astype(np.uint8)


def large_hole(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[50:110, 60:130] = 255
    return mask


def test_a_hole_in_cloth_is_filled_with_cloth() -> None:
    cloth = woven(160, 200)
    mask = large_hole(160, 200)
    torn = cloth.copy()
    torn[mask > 0] = 255
    filled = ExemplarFill("cloth", [woven(220, 260, 1)]).fill(torn, mask)
    assert (filled[mask == 0] == torn[mask == 0]).all()
    inside = mask > 0
    # As rough as the cloth around it, which no diffusion is.
    assert filled[inside].std() > 0.8 * cloth[inside].std()
    plain = cv2.inpaint(torn, mask, 3, cv2.INPAINT_TELEA)
    assert plain[inside].std() < 0.6 * cloth[inside].std()
    assert abs(float(filled[inside].mean()) - float(cloth[inside].mean())) < 10


def test_exemplars_of_another_tone_are_shifted_to_it() -> None:
    cloth = woven(160, 200)
    mask = large_hole(160, 200)
    darker = np.clip(woven(220, 260, 1).astype(int) - 50, 0, 255).astype(np.uint8)
    filled = ExemplarFill("cloth", [darker]).fill(cloth, mask)
    assert abs(float(filled[mask > 0].mean()) - float(cloth[mask > 0].mean())) < 10


def test_the_seed_chooses_and_is_told() -> None:
    cloth, mask = woven(160, 200), large_hole(160, 200)
    engine = ExemplarFill("cloth", [woven(300, 300, 1)], choices=10)
    with accounting() as told:
        first = engine.fill(cloth, mask, seed=5)
    assert told.seed == 5
    np.testing.assert_array_equal(first, engine.fill(cloth, mask, seed=5))
    assert any((first != engine.fill(cloth, mask, seed=seed)).any() for seed in range(6))


def test_without_any_piece_that_is_large_enough_it_says_so() -> None:
    pixels = photo("coffee", 60)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[8:30, 8:50] = 255
    with accounting() as told:
        filled = ExemplarFill("cloth", []).fill(pixels, mask)
    assert filled.shape == pixels.shape
    assert "large enough" in told.notes[0]


def test_sixteen_bits_stay_sixteen() -> None:
    cloth = woven(160, 200).astype(np.uint16) * 257
    filled = ExemplarFill("cloth", []).fill(cloth, large_hole(160, 200))
    assert filled.dtype == np.uint16


def test_the_library_is_part_of_the_identity() -> None:
    one, other = (ExemplarFill("c", [woven(50, 50, seed)]).spec for seed in (1, 2))
    assert one.code_version != other.code_version
