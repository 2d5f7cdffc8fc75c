"""`python -m imgflow.training ...`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from imgflow.engines.networks.eraser import Eraser
    from imgflow.training.loop import Recipe

Photos = Annotated[Path, typer.Argument(help="Folder of photos to learn from.")]
Work = Annotated[Path, typer.Option(help="Folder for checkpoint, curve and weights.")]
FontFolder = Annotated[Path, typer.Option("--fonts", help="Folder of fonts.")]
Rate = Annotated[float, typer.Option("--learning-rate")]
Start = Annotated[
    Path | None, typer.Option("--start", help="Weights to begin with, of an earlier training.")
]
Seed = Annotated[int, typer.Option()]
Threads = Annotated[int, typer.Option(help="Threads of torch; 0: its choice.")]

KEPT = 8
"""Every so manieth photo is learned from by nobody: curves and thresholds are taken on it."""

app = typer.Typer(help="Train the weights that imgflow ships.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command()
def finder(
    photos: Photos,
    work: Work,
    fonts: FontFolder = Path("/usr/share/fonts"),
    steps: Annotated[int, typer.Option(help="Steps of 8 patches.")] = 12_000,
    learning_rate: Rate = 1e-3,
    start: Start = None,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """The part of the eraser that finds text. Run again, it goes on where it stopped."""
    from imgflow.training import finder as lesson
    from imgflow.training.loop import Recipe

    recipe = Recipe(steps=steps, batch=2, learning_rate=learning_rate, seed=seed)
    known = _Known(photos, fonts, start, threads)
    known.teach("finder", lesson.Scenes, lesson.loss, lesson.judged, recipe, work)


@app.command()
def restorer(
    photos: Photos,
    work: Work,
    fonts: FontFolder = Path("/usr/share/fonts"),
    steps: Annotated[int, typer.Option(help="Steps of 16 patches.")] = 12_000,
    learning_rate: Rate = 1e-3,
    start: Start = None,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """The part of the eraser that recovers what is under text. It, too, can be stopped."""
    from imgflow.training import restorer as lesson
    from imgflow.training.loop import Recipe

    recipe = Recipe(steps=steps, batch=2, learning_rate=learning_rate, seed=seed)
    known = _Known(photos, fonts, start, threads)
    known.teach("restorer", lesson.Scenes, lesson.loss, lesson.judged, recipe, work)


@app.command()
def join(
    finder: Annotated[Path, typer.Argument(help="Weights with the finder to take.")],
    restorer: Annotated[Path, typer.Argument(help="Weights with the restorer to take.")],
    eraser: Annotated[Path, typer.Argument(help="File to write.")],
) -> None:
    """Make one eraser of a finder and a restorer that were trained side by side."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    weights: dict[str, Any] = {}
    about = {"network": "eraser"}
    for part, path in (("finder", finder), ("restorer", restorer)):
        with safe_open(str(path), "pt") as file:
            about[f"{part}_recipe"] = file.metadata()["recipe"]
            names = [name for name in file.keys() if name.startswith(part)]  # noqa: SIM118
            weights |= {name: file.get_tensor(name) for name in names}
    save_file(weights, str(eraser), metadata=about)


class _Known:
    """Photos, fonts and weights that a training of the eraser begins with.

    Some photos are kept for the curve.
    """

    def __init__(self, photos: Path, fonts: Path, start: Path | None, threads: int) -> None:
        import torch

        from imgflow.synthesis.fonts import find_fonts
        from imgflow.training.photos import load_photos

        if threads:
            torch.set_num_threads(threads)
        self._photos = load_photos(photos)
        self._fonts = find_fonts(fonts, held_out=False)
        self._start = start

    def teach(
        self, part: str, scenes: Any, loss: Any, judged: Any, recipe: Recipe, work: Path
    ) -> None:
        """Train one part of an eraser, leave the other as it was, and write both."""
        import torch
        from safetensors.torch import load_file

        from imgflow.engines.networks.eraser import Eraser
        from imgflow.training.loop import export, train

        names = sorted(self._photos)
        kept = names[::KEPT]
        shown = [self._photos[name] for name in names if name not in kept]
        samples = scenes(shown, self._fonts, recipe.seed)
        unseen = scenes([self._photos[name] for name in kept], self._fonts, recipe.seed + 1)
        torch.manual_seed(recipe.seed)
        network = Eraser()
        if self._start is not None:
            network.load_state_dict(load_file(str(self._start)))
        for name, weight in network.named_parameters():
            weight.requires_grad_(name.startswith(part))

        def judge(trained: Eraser) -> dict[str, float]:
            found: dict[str, float] = judged(trained, unseen, 40)
            return found

        network = train(network, samples, loss, judge, recipe, work, typer.echo)
        path = work / "eraser.safetensors"
        export(network, path, recipe, {"network": f"eraser, its {part} trained"})
        typer.echo(f"weights: {path}")


@app.command()
def origin(
    photos: Photos,
    work: Annotated[Path, typer.Option(help="Folder for photos, detections and weights.")],
    eraser: Annotated[Path | None, typer.Option(help="Weights with the finder in use.")] = None,
    fonts: FontFolder = Path("/usr/share/fonts"),
    cases: Annotated[int, typer.Option(help="Photos with text to make.")] = 1600,
    seed: Seed = 0,
) -> None:
    """The judge of overlay and product text. Run again, it goes on where it stopped."""
    from random import Random

    from imgflow.engines.eraser import NeuralEraser
    from imgflow.engines.origin import look
    from imgflow.engines.rapidocr import RapidOcrDetector
    from imgflow.stages.text import survey
    from imgflow.synthesis.fonts import find_fonts
    from imgflow.synthesis.phrases import TRAINING
    from imgflow.training.origin import (
        Case,
        collect,
        export,
        figures,
        lessons,
        make_case,
        teach,
    )
    from imgflow.training.photos import load_photos

    known = load_photos(photos)
    names = sorted(known)
    # The photos that the finder did not learn from are kept for the thresholds, and every fourth
    # case is made of those.
    kept = names[::KEPT]
    shown = [known[name] for name in names if name not in kept]
    unseen = [known[name] for name in kept]
    found = find_fonts(fonts, held_out=False)

    def make(number: int) -> Case:
        chance = Random(f"{seed}/{number}")
        return make_case(unseen if number % 4 == 3 else shown, TRAINING, found, chance)

    labels = collect(make, range(cases), RapidOcrDetector(), work / "cases", typer.echo)
    finder = NeuralEraser(weights=eraser)
    pairs = []
    for number, each in enumerate(labels):
        if each.regions:
            letters = survey(each.photo, each.regions, finder)
            pairs.append((number, look(each.photo, each.regions, letters), each))
        if (number + 1) % 100 == 0:
            typer.echo(f"{number + 1} of {len(labels)} photos measured")
    taught = lessons([(seen, each) for number, seen, each in pairs if number % 4 != 3])
    held = lessons([(seen, each) for number, seen, each in pairs if number % 4 == 3])
    weights = teach(taught, held, seed)
    path = work / "origin.safetensors"
    export(weights, path, {"seed": str(seed), "cases": str(cases)})
    for name, part in (("taught", taught), ("kept back", held)):
        told = ", ".join(f"{key} {value:.4g}" for key, value in figures(weights, part).items())
        typer.echo(f"{name}: {told}")
    typer.echo(f"weights: {path}")


if __name__ == "__main__":
    app()
