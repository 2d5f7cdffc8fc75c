"""One-shot commands: what is repaired, what stays as it is, and what is never overwritten."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from samples import FakeDetector, Stamped, decoded, encoded, encoded_16, photo
from typer.testing import CliRunner, Result

from imgflow.cli import app
from imgflow.engines import registry

QUIET = "upscale: {max_scale: 1, sharpen_below: 0}\n"
SIZE = (133, 200)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamped: Stamped) -> Path:
    """A folder to work in, whose detector knows the one stamp, and a policy that enlarges none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGFLOW_HOME", "data")
    monkeypatch.setattr(registry, "_rapidocr", lambda threads: FakeDetector(stamped))
    Path("data").mkdir()
    Path("data/policy.yaml").write_text(QUIET)
    return tmp_path


def imgflow(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def put(path: str, data: bytes) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)
    return Path(path)


def files(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def mask(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray[Any, Any]:
    marks = np.zeros((height, width), np.uint8)
    marks[60:70, 90:102] = 255
    return marks


def small(format: str = "PNG", **options: Any) -> bytes:
    return encoded(photo("coffee", 200), format, **options)


# -- which files are written -----------------------------------------------------------


def test_a_folder_keeps_its_paths_and_nothing_collides(stamped_file: bytes) -> None:
    clean = {"a.jpg": small("JPEG"), "a.png": small(), "deep/a.webp": small("WEBP")}
    for name, data in {**clean, "a.tiff": small("TIFF"), "a.tiff.png": stamped_file}.items():
        put(f"in/{name}", data)
    result = imgflow("detext", "in", "out")
    assert result.exit_code == 0
    written = files("out")
    assert set(written) == {*clean, "a.tiff.png", "a.tiff.png.png"}
    assert {name: written[name] for name in clean} == clean  # byte for byte
    assert (decoded(written["a.tiff.png.png"]) == photo("coffee", 200)).all()
    assert "5 photos: 1 repaired, 1 converted only, 3 copied" in result.stdout


def test_a_file_goes_to_a_file_or_into_a_folder() -> None:
    put("a.jpg", small("JPEG"))
    Path("there").mkdir()
    assert imgflow("rescue", "a.jpg", "b.jpeg").exit_code == 0
    assert imgflow("rescue", "a.jpg", "there").exit_code == 0
    assert imgflow("rescue", "a.jpg", "new/folder").exit_code == 0
    written = [Path(each).read_bytes() for each in ("b.jpeg", "there/a.jpg", "new/folder/a.jpg")]
    assert written == [small("JPEG")] * 3


def test_another_format_is_written_where_the_target_asks_for_it() -> None:
    put("a.png", small())
    assert imgflow("rescue", "a.png", "a.webp").exit_code == 0
    assert Image.open("a.webp").format == "WEBP"
    result = imgflow("rescue", "a.png", "a.gif")
    assert result.exit_code == 1
    assert "a.gif: files of type .gif are not written. Name the result" in result.stderr


def test_what_exists_is_replaced_only_on_request() -> None:
    put("a.png", small())
    put("b.png", b"precious")
    result = imgflow("rescue", "a.png", "b.png")
    assert result.exit_code == 1
    assert "failed a.png: b.png exists already. Use --overwrite to replace it" in result.stderr
    assert Path("b.png").read_bytes() == b"precious"
    assert imgflow("rescue", "a.png", "b.png", "--overwrite").exit_code == 0
    assert Path("b.png").read_bytes() == small()


@pytest.mark.parametrize("way", ["same", "symlink", "hardlink"])
def test_a_photo_never_overwrites_itself(way: str) -> None:
    put("a.png", small())
    target = Path("a.png" if way == "same" else "b.png")
    if way == "symlink":
        target.symlink_to("a.png")
    elif way == "hardlink":
        os.link("a.png", target)
    result = imgflow("upscale", "a.png", target, "--scale", 2, "--overwrite")
    assert result.exit_code == 1
    assert f"{target} is the photo itself, which is never overwritten" in result.stderr
    assert Path("a.png").read_bytes() == small()


@pytest.mark.parametrize("target", ["in", "in/out", "in/../in", "link"])
def test_results_never_lie_among_the_photos(target: str) -> None:
    put("in/a.png", small())
    Path("link").symlink_to("in")
    result = imgflow("rescue", "in", target, "--overwrite")
    assert result.exit_code == 1
    assert "the results would lie among the photos" in result.stderr
    assert files("in") == {"a.png": small()}


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        ("gone.png", "out", "gone.png: there is no such file or folder"),
        ("empty", "out", "empty: there is no photo in this folder"),
        ("in", "file.txt", "file.txt: this is a file"),
    ],
)
def test_what_cannot_begin_says_why(source: str, target: str, what: str) -> None:
    Path("empty").mkdir()
    put("in/a.png", small())
    put("file.txt", b"text")
    result = imgflow("rescue", source, target)
    assert result.exit_code == 1
    assert what in result.stderr
    assert not Path("out").exists()


def test_bad_photos_are_named_and_do_not_stop_the_rest() -> None:
    put("in/good.png", small())
    put("in/zero.jpg", b"")
    put("in/page.jpg", b"<html>404")
    put("in/cut.jpg", small("JPEG")[:3000])
    Path("in/folder.png").mkdir()
    Path("in/link.png").symlink_to(put("outside.png", small()).absolute())
    result = imgflow("rescue", "in", "out")
    assert result.exit_code == 1
    assert set(files("out")) == {"good.png"}
    for name in ("zero.jpg", "page.jpg", "cut.jpg", "folder.png", "link.png"):
        assert f"failed in/{name}: " in result.stderr
    assert "6 photos: 1 copied as they need nothing, 5 failed" in result.stdout


def test_a_link_that_is_named_is_followed() -> None:
    put("else/where.png", small())
    Path("a.png").symlink_to("else/where.png")
    assert imgflow("rescue", "a.png", "b.png").exit_code == 0
    assert Path("b.png").read_bytes() == small()


def test_a_name_that_grows_too_long_costs_that_photo_alone() -> None:
    name = "x" * 250 + ".tiff"
    put(f"in/{name}", small("TIFF"))
    put("in/b.png", small())
    result = imgflow("rescue", "in", "out")
    assert result.exit_code == 1
    assert f"failed in/{name}: " in result.stderr
    assert "File name too long. Give it a shorter name" in result.stderr
    assert set(files("out")) == {"b.png"}


@pytest.mark.parametrize("command", [["rescue"], ["upscale", "--scale", "2"]])
def test_a_full_disk_leaves_no_half_file(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/a.png", small())
    put("out/a.png", b"of yesterday")

    def half(path: object, *rest: object) -> None:
        target = Path(str(rest[0] if isinstance(path, (str, Path)) and len(rest) else path))
        target.open("wb").write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if command == ["rescue"]:
            patch.setattr("imgflow.oneshot.shutil.copyfile", half)
        else:
            patch.setattr(Path, "write_bytes", lambda path, data: half(path))
        result = imgflow(*command, "in", "out", "--overwrite")
    assert result.exit_code == 1
    assert "failed in/a.png: out/a.png cannot be written: No space left on device. Make room" in (
        result.stderr
    )
    assert files("out") == {"a.png": b"of yesterday"}


# -- what is in them -------------------------------------------------------------------


def test_text_is_removed_and_reported(stamped: Stamped, stamped_file: bytes) -> None:
    put("in/stamped.png", stamped_file)
    put("in/clean.png", small())
    put("in/page.jpg", b"<html>")
    result = imgflow("detext", "in", "out", "--report", "found.json")
    assert result.exit_code == 1
    repaired = decoded(Path("out/stamped.png").read_bytes())
    assert np.abs(repaired.astype(int) - stamped.clean)[stamped.changed].mean() < 30
    report = {Path(each["file"]).name: each for each in json.loads(Path("found.json").read_text())}
    assert {name: each["flagged"] for name, each in report.items()} == {
        "stamped.png": True,
        "clean.png": False,
        "page.jpg": False,
    }
    found = report["stamped.png"]
    assert found["engine"] == "imgflow-eraser-12"
    assert found["seconds"] > 0
    [region] = found["regions"]
    assert (region["text"], region["confidence"]) == (stamped.text, 0.99)
    assert np.allclose(region["polygon"], stamped.polygon, atol=2)
    assert "HTML" in report["page.jpg"]["error"]
    assert report["page.jpg"]["seconds"] >= 0


def test_a_report_must_not_replace_a_photo() -> None:
    put("a.png", small())
    result = imgflow("detext", "a.png", "b.png", "--report", "a.png")
    assert result.exit_code == 1
    assert "must be named .json" in result.stderr
    assert Path("a.png").read_bytes() == small()


def test_pixels_outside_the_mask_are_bit_exact() -> None:
    put("a.png", small())
    put("m.png", encoded(mask()))
    assert imgflow("inpaint", "a.png", "b.png", "--mask", "m.png").exit_code == 0
    changed = (decoded(Path("b.png").read_bytes()) != photo("coffee", 200)).any(axis=2)
    assert changed.any()
    assert not changed[mask() == 0].any()


@pytest.mark.parametrize(
    ("marks", "what"),
    [
        (mask(100, 150), "the mask m.png is 150 x 100 pixels, the photo is 200 x 133"),
        (np.zeros(SIZE, np.uint8), "marks no pixel"),
        (None, "the mask m.png cannot be read: there is no such file"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(marks: np.ndarray[Any, Any] | None, what: str) -> None:
    put("a.png", small())
    if marks is not None:
        put("m.png", encoded(marks))
    result = imgflow("inpaint", "a.png", "b.png", "--mask", "m.png")
    assert result.exit_code == 1
    assert what in result.stderr
    assert not Path("b.png").exists()


def test_options_that_the_engine_does_not_know_are_told() -> None:
    put("a.png", small())
    put("m.png", encoded(mask()))
    options = ("--mask", "m.png", "--prompt", "a wall", "--seed", 7)
    result = imgflow("inpaint", "a.png", "b.png", *options)
    assert result.exit_code == 0
    assert "note a.png: the engine 'telea' takes no prompt: it was not used" in result.stderr
    assert "takes no seed" in result.stderr
    result = imgflow("inpaint", "a.png", "c.png", *options, "--json")
    assert [each["file"] for each in json.loads(result.stdout)["notes"]] == ["a.png", "a.png"]


def test_an_impossible_option_is_an_error_and_no_traceback() -> None:
    put("a.png", small())
    put("m.png", encoded(mask()))
    result = imgflow("inpaint", "a.png", "b.png", "--mask", "m.png", "--prompt", "x" * 3000)
    assert result.exit_code == 1
    assert "prompt" in result.stderr


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarged_photos_have_exactly_the_size_asked_for(scale: int) -> None:
    put("a.png", encoded(photo("coffee", 61)))
    height, width = photo("coffee", 61).shape[:2]
    assert imgflow("upscale", "a.png", "b.png", "--scale", scale).exit_code == 0
    assert Image.open("b.png").size == (scale * width, scale * height)


def test_a_scale_that_there_is_not_is_refused_in_words() -> None:
    put("a.png", small())
    result = imgflow("upscale", "a.png", "b.png", "--scale", 5)
    assert result.exit_code == 2
    assert "photos are enlarged 2, 3 or 4 times, not 5" in result.stderr


def test_an_enlargement_beyond_the_policy_is_a_failure_and_no_copy() -> None:
    Path("data/policy.yaml").write_text("upscale: {max_output_pixels: 50000}\n")
    put("a.png", small())
    result = imgflow("upscale", "a.png", "b.png", "--scale", 2)
    assert result.exit_code == 1
    assert "x2 of 200 x 133 pixels is asked for" in result.stderr
    assert not Path("b.png").exists()


def test_jpegs_are_written_nearly_lossless_upright_and_with_their_rights() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Copyright] = "© Ümlaut".encode()
    put("a.jpg", small("JPEG", quality=95, exif=exif))
    put("m.png", encoded(np.rot90(mask(), -1)))  # painted on the upright photo
    assert imgflow("inpaint", "a.jpg", "b.jpg", "--mask", "m.png").exit_code == 0
    image = Image.open("b.jpg")
    assert image.size == SIZE
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert b"\xc2\xa9 \xc3\x9cmlaut" in Path("b.jpg").read_bytes()
    assert [each[1:3] for each in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    reference = io.BytesIO()
    image.save(reference, "JPEG", quality=95)
    assert image.quantization == Image.open(reference).quantization  # type: ignore[attr-defined]
    upright = np.rot90(photo("coffee", 200), -1).astype(int)
    assert np.abs(np.array(image) - upright).mean() < 4


@pytest.mark.parametrize(("keep", "note"), [("false", "reduced"), ("true", "written with 8")])
def test_a_reduced_depth_is_told(keep: str, note: str) -> None:
    Path("data/policy.yaml").write_text(f"raw: {{keep_16_bit: {keep}}}\n")
    put("a.png", encoded_16(photo("coffee", 200).astype(np.uint16) * 257))
    put("m.png", encoded(mask()))
    result = imgflow("inpaint", "a.png", "b.png", "--mask", "m.png")
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("note a.png: ")
    assert note in line


def test_rescue_reads_the_policy_and_the_manifests() -> None:
    put("in/a.png", small())
    put("in/a.png.json", b'{"steps": [{"op": "inpaint", "mask": "hole.mask.png"}]}')
    put("in/hole.mask.png", encoded(mask()))
    put("in/b.png", small())
    put("in/b.png.json", b'{"steps": [{"op": "polish"}]}')
    result = imgflow("rescue", "in", "out", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["repaired"], told["copied"]) == (1, 0)
    [failed] = told["failed"]
    assert failed["file"] == "in/b.png"
    assert "polish" in failed["error"]
    assert set(files("out")) == {"a.png"}


def test_a_gate_that_fails_is_named_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/policy.yaml").write_text("inpaint: {gates: {psnr: 99}}\n")
    put("a.png", small())
    put("m.png", encoded(mask()))
    result = imgflow("inpaint", "a.png", "b.png", "--mask", "m.png")
    assert result.exit_code == 1
    assert "failed a.png: stopped at inpainted: " in result.stderr
    assert not Path("b.png").exists()
