"""A manifest says what is wanted, or is refused with its file, its field and what is allowed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgflow.errors import BadManifest
from imgflow.policy.manifest import (
    Inpaint,
    Manifest,
    Region,
    RemoveText,
    Upscale,
    find_manifest,
    mask_path,
    parse_manifest,
    read_manifest,
)
from imgflow.policy.policy import Traits

SHA256 = "0123456789abcdef" * 4
BOX = {"x": 10, "y": 20, "width": 30, "height": 40}
TRIANGLE = {"polygon": [[0, 0], [10, 0], [0, 10]]}
BOW_TIE = {"polygon": [[0, 0], [10, 10], [10, 0], [0, 10]]}


def parse(**fields: Any) -> Manifest:
    return parse_manifest(json.dumps(fields).encode(), "a.jpg.json")


def parse_step(**fields: Any) -> Any:
    return parse(steps=[fields]).steps[0]


def refusal(text: bytes) -> str:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(text, "a.jpg.json")
    assert caught.value.code == "manifest_invalid"
    assert "a.jpg.json" in caught.value.what
    return caught.value.what.partition("is not valid: ")[2]


def refused(**fields: Any) -> str:
    return refusal(json.dumps(fields).encode())


def refused_step(**fields: Any) -> str:
    return refused(steps=[fields])


# What may be said


def test_an_empty_manifest_says_nothing() -> None:
    assert parse() == Manifest()
    assert Manifest().traits() == Traits()


def test_all_fields() -> None:
    manifest = parse(
        version=1,
        job_id="job 1/é",
        asset_type="hero",
        category="靴 shoes",
        criticality="high",
        image_sha256=SHA256,
        steps=[{"op": "upscale", "scale": 2}],
        callback="https://shop.example:8443/done?id=1",
    )
    assert manifest.traits() == Traits("hero", "靴 shoes", "high")
    assert manifest.callback == "https://shop.example:8443/done?id=1"


@pytest.mark.parametrize("fields", [{}, {"region": BOX}, {"hint": "date-stamp"}])
def test_remove_text(fields: dict[str, Any]) -> None:
    assert isinstance(parse_step(op="remove_text", **fields), RemoveText)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "m.png"},
        {"mask": "masks/m.png", "mask_image_sha256": SHA256},
        {"region": TRIANGLE, "prompt": "two\nlines", "negative_prompt": "text", "seed": 2**32 - 1},
        {"region": BOX, "preserve_edges": True},
    ],
)
def test_inpaint(fields: dict[str, Any]) -> None:
    assert isinstance(parse_step(op="inpaint", **fields), Inpaint)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upscale(scale: int) -> None:
    assert parse_step(op="upscale", scale=scale) == Upscale(op="upscale", scale=scale)


@pytest.mark.parametrize("callback", ["http://a", "HTTPS://a.b/c#d", "http://[::1]:80/x"])
def test_callbacks(callback: str) -> None:
    assert parse(callback=callback).callback == callback


# What may not


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (
            {"op": "upscale", "scale": 5},
            "steps[0].scale: Input should be 2, 3 or 4 (given: 5)",
        ),
        ({"op": "upscale"}, "steps[0].scale: is required"),
        (
            {"op": "enlarge"},
            "steps[0].op: Input should be one of 'remove_text', 'inpaint', 'upscale' "
            "(given: 'enlarge')",
        ),
        ({}, "steps[0].op: Input should be one of 'remove_text', 'inpaint', 'upscale'"),
        ("upscale", "steps[0]: must be a mapping of fields (given: 'upscale')"),
        (
            {"op": "remove_text", "hint": "logo"},
            "steps[0].hint: Input should be 'date-stamp', 'caption', 'watermark', 'url' or "
            "'screenshot' (given: 'logo')",
        ),
        (
            {"op": "remove_text", "regoin": BOX},
            "steps[0].regoin: there is no such field; did you mean 'region'?",
        ),
        ({"op": "inpaint"}, "steps[0]: give exactly one of mask and region"),
        (
            {"op": "inpaint", "region": BOX, "mask": "m.png"},
            "steps[0]: give exactly one of mask and region",
        ),
        (
            {"op": "inpaint", "region": BOX, "mask_image_sha256": SHA256},
            "steps[0]: mask_image_sha256 belongs to a mask, and there is none",
        ),
        (
            {"op": "inpaint", "mask": "a\0.png"},
            "steps[0].mask: must not contain control characters or line breaks "
            "(given: 'a\\x00.png')",
        ),
        (
            {"op": "inpaint", "region": {"polygon": [[0, 0], [1, 1], [2, "3"]]}},
            "steps[0].region.polygon[2][1]: Input should be a valid number (given: '3')",
        ),
    ],
)
def test_a_bad_step_is_told_with_its_field_and_what_is_allowed(step: Any, problem: str) -> None:
    assert refused(steps=[step]) == problem


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("asset_type", "poster"),
        ("criticality", "severe"),
        ("version", 2),
        ("version", True),
        ("version", 1.0),
        ("version", "1"),
        ("job_id", ""),
        ("job_id", 7),
        ("job_id", "x" * 201),
        ("job_id", "a\nb"),
        ("category", "a\0"),
        ("category", "a\u2028"),
        ("image_sha256", SHA256.upper()),
        ("image_sha256", SHA256[1:]),
        ("image_sha256", SHA256 + "\n"),
        ("steps", {}),
        ("steps", None),
    ],
)
def test_bad_values_are_refused_by_field(field: str, bad: Any) -> None:
    assert refused(**{field: bad}).startswith(field)


@pytest.mark.parametrize(
    "step",
    [
        {"op": "inpaint", "mask": "m", "preserve_edges": "yes"},
        {"op": "inpaint", "mask": "m", "preserve_edges": 1},
        {"op": "inpaint", "mask": "m", "seed": -1},
        {"op": "inpaint", "mask": "m", "seed": 2**32},
        {"op": "inpaint", "mask": "m", "seed": 1.0},
        {"op": "inpaint", "mask": "m", "seed": True},
        {"op": "inpaint", "mask": "m", "mask_image_sha256": "abc"},
        {"op": "inpaint", "mask": ""},
        {"op": "inpaint", "mask": "m", "prompt": "x" * 2001},
        {"op": "upscale", "scale": 2.0},
        {"op": "upscale", "scale": "2"},
        {"op": "upscale", "scale": True},
    ],
)
def test_bad_values_in_steps_are_refused(step: dict[str, Any]) -> None:
    assert refused_step(**step).startswith("steps[0].")


@pytest.mark.parametrize(
    "callback",
    [
        "",
        "shop.example/x",
        "ftp://a/",
        "http://",
        "http:///x",
        "http://a b/\n",
        "http://a/\n",
        "http://a\t/",
        "http://a:99999/",
        "http://a:x/",
        "http://:@h/",
        "http://user@h/",
        "http://user:word@h/",
        "http://[::1/",
        "http://a\\b/",
        "http://é/",
    ],
)
def test_callbacks_that_are_none(callback: str) -> None:
    assert refused(callback=callback).startswith("callback: ")


def test_one_enlargement_at_most() -> None:
    assert "only one upscale" in refused(steps=[{"op": "upscale", "scale": 2}] * 2)


def test_limits() -> None:
    step = {"op": "remove_text"}
    assert len(parse(steps=[step] * 100).steps) == 100
    assert refused(steps=[step] * 101).startswith("steps: ")
    assert "larger than 1000000 bytes" in refusal(b" " * 1_000_001)
    corners = [[x, x * x] for x in range(1001)]
    assert "at most 1000" in refused_step(op="remove_text", region={"polygon": corners})
    assert parse_step(op="remove_text", region={"polygon": corners[:1000]})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"[]", "it must be a JSON object"),
        (b"\xff\xfe\xfd", "decode"),
        (b'{"job_id": "a", "job_id": "b"}', "the field 'job_id' stands twice"),
        (b'{"steps": [{"op": "upscale", "scale": 2, "scale": 3}]}', "'scale' stands twice"),
        (b'{"category": "\\ud800"}', "surrogates"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"steps": [{"op": "remove_text", "region": {"x": NaN}}]}', "finite"),
    ],
)
def test_broken_json_is_refused(text: bytes, problem: str) -> None:
    assert problem in refusal(text)


JSON_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NEARLY_STEPS = st.fixed_dictionaries(
    {"op": st.sampled_from(["upscale", "inpaint", "remove_text", "x"])},
    optional={
        "scale": JSON_VALUES,
        "mask": JSON_VALUES,
        "seed": JSON_VALUES,
        "region": JSON_VALUES
        | st.dictionaries(st.sampled_from(["x", "y", "width", "height", "polygon"]), JSON_VALUES),
    },
)


@settings(deadline=None, max_examples=200)
@given(
    JSON_VALUES
    | st.dictionaries(st.sampled_from(list(Manifest.model_fields)), JSON_VALUES)
    | st.builds(lambda steps: {"steps": steps}, st.lists(NEARLY_STEPS, max_size=3))
)
@example({"steps": [{"op": "inpaint", "region": {"polygon": [[1e-300, 0], [0, 1e6], [1, 1]]}}]})
@example({"steps": [{"op": "remove_text", "region": {**BOX, "x": 10**400}}]})
@example({"steps": [{"op": ["upscale"]}]})
def test_any_json_is_a_manifest_or_a_bad_manifest(value: Any) -> None:
    try:
        manifest = parse_manifest(json.dumps(value).encode(), "a.json")
    except BadManifest as error:
        str(error).encode()  # a person can be shown it
    else:
        assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_manifest_or_a_bad_manifest(text: bytes) -> None:
    try:
        parse_manifest(text, "a.json")
    except BadManifest as error:
        str(error).encode()


# Regions


def test_a_rectangle_ends_with_its_last_pixel() -> None:
    region = parse_step(op="remove_text", region=BOX).region
    expected = [(10, 20), (39, 20), (39, 59), (10, 59)]
    np.testing.assert_array_equal(region.polygon_points(), expected)


def test_a_rectangle_of_one_pixel() -> None:
    region = Region(x=3, y=4, width=1, height=1)
    np.testing.assert_array_equal(region.polygon_points(), [(3, 4)] * 4)


@pytest.mark.parametrize("shape", [TRIANGLE, BOW_TIE])
def test_a_polygon_keeps_its_corners(shape: dict[str, Any]) -> None:
    points = parse_step(op="remove_text", region=shape).region.polygon_points()
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, shape["polygon"])


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ({}, "give either x, y, width and height, or polygon"),
        ({"x": 1, "y": 1}, "give either"),
        ({**BOX, **TRIANGLE}, "give either"),
        ({**TRIANGLE, "x": 1}, "give either"),
        ({**BOX, "width": 0.9}, "region.width: Input should be greater than or equal to 1"),
        ({**BOX, "height": 0}, "region.height: Input should be greater than or equal to 1"),
        ({**BOX, "x": -1}, "region.x"),
        ({**BOX, "x": 1_000_001}, "region.x"),
        ({**BOX, "x": "1"}, "region.x"),
        ({"polygon": [[0, 0], [1, 1]]}, "at least 3"),
        ({"polygon": [[0, 0], [1, 1], [3]]}, "region.polygon[2][1]: is required"),
        ({"polygon": [[0, 0], [1, 1], [3, 1, 2]]}, "region.polygon[2]"),
        ({"polygon": [[5, 5], [5, 5], [5, 5]]}, "must have an area"),
        ({"polygon": [[0, 0], [0.1, 0.1], [0.3, 0.3]]}, "must have an area"),
        ({"polygon": [[7, 1], [7, 9], [7, 4], [7, 2]]}, "must have an area"),
    ],
)
def test_regions_that_mark_nothing_are_refused(shape: dict[str, Any], problem: str) -> None:
    assert problem in refused_step(op="remove_text", region=shape)


# Finding and reading


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"{}")


def test_no_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    assert find_manifest(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("name", ["a.jpg.json", "a.json"])
def test_a_manifest_beside_its_photo(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.jpg", name)
    (tmp_path / "a.png").mkdir()  # no photo
    assert find_manifest(tmp_path / "a.jpg") == tmp_path / name


def test_the_exact_name_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "a.jpg.json", "a.json")
    assert find_manifest(tmp_path / "a.jpg") == tmp_path / "a.jpg.json"


def test_a_name_that_fits_two_photos_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.PNG", "a.json")
    with pytest.raises(BadManifest, match=r"a\.json may belong to a\.PNG or a\.jpg") as caught:
        find_manifest(tmp_path / "a.jpg")
    assert caught.value.code == "manifest_ambiguous"
    assert "a.jpg.json" in caught.value.hint


def test_the_exact_manifest_of_another_photo_is_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.jpg.png", "a.jpg.json")
    assert find_manifest(tmp_path / "a.jpg.png") is None
    assert find_manifest(tmp_path / "a.jpg") == tmp_path / "a.jpg.json"


def test_a_photo_with_the_longest_name(tmp_path: Path) -> None:
    name = "a" * 251 + ".jpg"
    touch(tmp_path, name)
    assert find_manifest(tmp_path / name) is None


def test_reading(tmp_path: Path) -> None:
    touch(tmp_path, "a.json")
    assert read_manifest(tmp_path / "a.json") == b"{}"
    with pytest.raises(BadManifest, match="cannot be read") as caught:
        read_manifest(tmp_path / "b.json")
    assert caught.value.code == "manifest_unreadable"


def test_a_huge_manifest_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b" " * 3_000_000)
    text = read_manifest(tmp_path / "a.json")
    assert len(text) < 1_100_000
    assert "larger than" in refusal(text)


# Masks


@pytest.mark.parametrize("mask", ["m.png", "sub/m.png", "sub/../m.png", "not there.png"])
def test_masks_in_the_folder(tmp_path: Path, mask: str) -> None:
    (tmp_path / "sub").mkdir()
    assert mask_path(tmp_path / "a.json", mask) == tmp_path / mask


@pytest.mark.parametrize(
    "mask", ["/etc/passwd", "../m.png", "sub/../../m.png", "out/m.png", "link.png"]
)
def test_masks_outside_of_the_folder_are_refused(tmp_path: Path, mask: str) -> None:
    folder = tmp_path / "uploads"
    (folder / "sub").mkdir(parents=True)
    touch(tmp_path, "m.png")
    (folder / "out").symlink_to(tmp_path)
    (folder / "link.png").symlink_to(tmp_path / "m.png")
    with pytest.raises(BadManifest) as caught:
        mask_path(folder / "a.json", mask)
    assert caught.value.code == "mask_path_outside"
    assert "a.json" in caught.value.what
    assert mask in caught.value.what


def test_an_absolute_name_is_refused_even_inside(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="not in its folder"):
        mask_path(tmp_path / "a.json", str(tmp_path / "m.png"))


@pytest.mark.parametrize("mask", ["a\0.png", "a" * 256, "sub/" + "é" * 128, "\0"])
def test_names_that_no_file_has_are_refused(tmp_path: Path, mask: str) -> None:
    with pytest.raises(BadManifest, match="no file can be called") as caught:
        mask_path(tmp_path / "a.json", mask)
    assert caught.value.code == "mask_name_invalid"
    assert "\0" not in caught.value.what


def test_a_loop_of_links_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "m.png").symlink_to("m.png")
    assert mask_path(tmp_path / "a.json", "m.png") == tmp_path / "m.png"


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="a./\0é ", min_size=1, max_size=30))
def test_no_name_leads_out(mask: str) -> None:
    folder = Path("/no/such/folder")
    try:
        path = mask_path(folder / "a.json", mask)
    except BadManifest:
        return
    assert path.resolve().is_relative_to(folder)
