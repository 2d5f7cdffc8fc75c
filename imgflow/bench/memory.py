"""Peak memory of one worker that takes a very large photo through all stages."""

from __future__ import annotations

import io
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from imgflow.home import Home
from imgflow.lineage.record import Version
from imgflow.pool import peak_mb

_PHOTO = "large.jpg"


@dataclass(frozen=True, slots=True)
class StageMemory:
    """What a worker had needed at most by the end of a stage, libraries included."""

    stage: str
    verdict: str
    seconds: float
    peak_mb: float


def bench_memory(width: int, height: int) -> list[StageMemory]:
    """Make a photo of that size with text and an unwanted region, and rescue it in a new process.

    The photo is soft, so that every stage has something to do.
    """
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder:
        home = Home(Path(folder))
        home.uploads.root.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        # Made in a process of its own, so that the making does not count.
        for work, arguments in ((_make_photo, (home, width, height)), (_rescue, (home,))):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                result = pool.submit(work, *arguments).result()
        assert isinstance(result, list)
        return result


def _make_photo(home: Home, width: int, height: int) -> None:
    import cv2
    from PIL import Image, ImageDraw, ImageFont
    from skimage import data

    soft = cv2.GaussianBlur(data.coffee(), (0, 0), 2.5)
    photo = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(photo)
    font = ImageFont.load_default(size=height // 20)
    draw = ImageDraw.Draw(image)
    draw.text((width * 0.62, height * 0.9), "2024/03/17", font=font, fill=(255, 160, 40))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    path = home.uploads.root / _PHOTO
    path.write_bytes(encoded.getvalue())
    region = {"x": width // 10, "y": height // 10, "width": width // 20, "height": height // 20}
    manifest = {"steps": [{"op": "inpaint", "region": region}]}
    path.with_name(f"{_PHOTO}.json").write_text(json.dumps(manifest))


def _rescue(home: Home) -> list[StageMemory]:
    from imgflow.batch import Order
    from imgflow.chain import rescue
    from imgflow.store.keys import ImageKey

    line = Order(home, run_id="bench").line()
    found = [StageMemory("start", "", 0.0, peak_mb())]
    started = time.perf_counter()
    # The passage as a run makes it comes first: its peak is the figure that counts.
    passage = rescue(ImageKey(_PHOTO), line)
    total = StageMemory(
        "all stages", str(passage.last and passage.last.verdict), time.perf_counter() - started,
        peak_mb(),
    )  # fmt: skip
    found += [
        StageMemory(str(step.record.version), str(step.record.verdict), step.record.seconds, 0.0)
        for step in passage.steps
    ]
    missing = set(Version) - {step.record.version for step in passage.steps}
    if missing:
        reason = passage.last and passage.last.reason
        raise RuntimeError(f"the photo did not come through: {reason}")
    return [*found, total]


def as_json(rows: list[StageMemory], width: int, height: int) -> dict[str, object]:
    """The line of JSON that the command prints last."""
    return {
        "width": width,
        "height": height,
        "peak_mb_per_worker": round(rows[-1].peak_mb, 1),
        "stages": [asdict(row) for row in rows],
    }
