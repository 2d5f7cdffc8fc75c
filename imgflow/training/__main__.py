"""`python -m imgflow.training ...`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgflow.engines.spec import Character

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
def filler(
    photos: Photos,
    work: Work,
    fonts: FontFolder = Path("/usr/share/fonts"),
    steps: Annotated[int, typer.Option(help="Steps of 16 patches.")] = 12_000,
    learning_rate: Rate = 1e-3,
    start: Start = None,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """The part of the eraser that fills what text hides. Run again, it goes on where it
    stopped."""
    from imgflow.training import filler as lesson
    from imgflow.training.loop import Recipe

    recipe = Recipe(steps=steps, batch=2, learning_rate=learning_rate, seed=seed)
    known = _Known(photos, fonts, start, threads)
    known.teach("filler", lesson.Scenes, lesson.loss, lesson.judged, recipe, work)


@app.command()
def restorer(
    photos: Photos,
    work: Work,
    fonts: FontFolder = Path("/usr/share/fonts"),
    steps: Annotated[int, typer.Option(help="Steps of 16 patches.")] = 12_000,
    learning_rate: Rate = 1e-3,
    start: Start = None,
    known: Annotated[
        Path | None,
        typer.Option(help="Weights whose finder and filler are used; none: they are made up."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """The part of the eraser that recovers what shows through text. It, too, can be stopped."""
    from functools import partial

    from imgflow.engines.eraser import NeuralEraser
    from imgflow.training import restorer as lesson
    from imgflow.training.loop import Recipe

    recipe = Recipe(steps=steps, batch=2, learning_rate=learning_rate, seed=seed)
    sources = _Known(photos, fonts, start, threads)
    eraser = None if known is None else NeuralEraser(weights=known)
    scenes = partial(lesson.Scenes, eraser=eraser)
    sources.teach("restorer", scenes, lesson.loss, lesson.judged, recipe, work)


@app.command()
def join(
    weights: Annotated[Path, typer.Argument(help="File to write.")],
    parts: Annotated[list[str], typer.Argument(help="PART=FILE: which file to take it from.")],
    small: Annotated[
        bool, typer.Option("--small", help="Filters as bytes: half as large a file.")
    ] = False,
) -> None:
    """Make one weights file of parts that were trained side by side: finder, filler and restorer
    of the eraser, clean and photo of the upscaler."""
    from safetensors.torch import save_file

    from imgflow.training.loop import in_bytes

    taken: dict[str, Any] = {}
    about: dict[str, str] = {}
    for each in parts:
        part, _, path = each.partition("=")
        if not path:
            raise typer.BadParameter(f"'{each}' is not PART=FILE")
        held, about[f"{part}_recipe"] = _part(Path(path), part)
        taken |= held
    save_file(in_bytes(taken) if small else taken, str(weights), metadata=about)


@app.command()
def average(
    weights: Annotated[Path, typer.Argument(help="File to write.")],
    part: Annotated[str, typer.Argument(help="Such as clean.")],
    files: Annotated[list[Path], typer.Argument(help="Trainings that began with one network.")],
) -> None:
    """Make one network of several that were trained on from the same one: the mean of their
    weights errs less than each of them (model soups; Wortsman et al. 2022)."""
    import json

    import torch
    from safetensors.torch import save_file

    from imgflow.engines.shipped import load_weights

    recipes = [_part(each, part)[1] for each in files]
    held = [
        {name: value for name, value in load_weights(each).items() if name.startswith(f"{part}.")}
        for each in files
    ]
    if any(each.keys() != held[0].keys() for each in held):
        raise typer.BadParameter(f"'{part}' is not of one shape in all of them")
    mean = {
        name: torch.stack([each[name].float() for each in held]).mean(dim=0).half()
        for name in held[0]
    }
    about = {"recipe": json.dumps([json.loads(each) for each in recipes])}
    save_file(mean, str(weights), metadata=about)


def _part(path: Path, part: str) -> tuple[dict[str, Any], str]:
    """One part of a weights file, by its names in the file, and its recipe."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{part}.")]  # noqa: SIM118
        if not names:
            raise typer.BadParameter(f"{path} has no part '{part}'")
        # A file that was joined itself tells its parts apart.
        told = file.metadata()
        recipe = told.get(f"{part}_recipe") or told["recipe"]
        return {name: file.get_tensor(name) for name in names}, recipe


@app.command()
def upscaler(
    photos: Photos,
    work: Work,
    character: Annotated[Character, typer.Option(help="Of the photos to enlarge.")] = "clean",
    steps: Annotated[int, typer.Option(help="Steps of 36,864 pixels.")] = 16_000,
    squared: Annotated[
        bool, typer.Option("--squared", help="Squared errors count: to end a training with.")
    ] = False,
    various: Annotated[
        bool,
        typer.Option(
            "--various", help="Patches of more sizes, mixed and recoloured, against overfitting."
        ),
    ] = False,
    patch: Annotated[
        int, typer.Option(min=16, help="Pixels a side of a patch: even. Larger, there are fewer.")
    ] = 48,
    learning_rate: Rate = 1e-3,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with: the character's own if the file has any, else clean "
            "ones; or a clean checkpoint.pt."
        ),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """The upscaler, for one character of photos. Run again, it goes on where it stopped."""
    import torch

    from imgflow.engines.networks.upscaler import SuperResolver
    from imgflow.engines.shipped import load_part
    from imgflow.training import upscaler as lesson
    from imgflow.training.loop import CHECKPOINT, Recipe, averaged, export, train
    from imgflow.training.photos import load_photos

    if patch % 2:
        raise typer.BadParameter("--patch is even: the network halves what it sees")
    if threads:
        torch.set_num_threads(threads)
    known = load_photos(photos)
    names = sorted(known)
    kept = names[::KEPT]
    shown = [known[name] for name in names if name not in kept]
    samples = lesson.Pairs(shown, character, seed, various=various, patch=patch)
    unseen = lesson.Pairs([known[name] for name in kept], character, seed + 1)
    torch.manual_seed(seed)
    network = SuperResolver()
    if start is not None:
        # The photo network begins with what the clean one knows, if need be half-trained.
        network.load_state_dict(
            averaged(start)
            if start.name == CHECKPOINT
            else load_part(start, character) or load_part(start, "clean")
        )
    recipe = Recipe(steps=steps, batch=1, learning_rate=learning_rate, seed=seed, every=500)

    def judge(trained: SuperResolver) -> dict[str, float]:
        return lesson.judged(trained, unseen, 24)

    loss = lesson.squared_loss if squared else lesson.loss
    network = train(network, samples, loss, judge, recipe, work, typer.echo)
    path = work / "upscaler.safetensors"
    export(network, path, recipe, {"network": "upscaler"}, prefix=f"{character}.")
    typer.echo(f"weights: {path}")


class _Known:
    """Photos, fonts and weights that a training of the eraser begins with.

    Some photos are kept for the curve.
    """

    def __init__(self, photos: Path, fonts: Path, start: Path | None, threads: int) -> None:
        import torch

        from imgflow.synthesis.fonts import find_fonts
        from imgflow.training.photos import load_photos, load_textures

        if threads:
            torch.set_num_threads(threads)
        self._textures = load_textures()
        self._photos = load_photos(photos)
        self._fonts = find_fonts(fonts, held_out=False)
        self._start = start

    def teach(
        self, part: str, scenes: Any, loss: Any, judged: Any, recipe: Recipe, work: Path
    ) -> None:
        """Train one part of an eraser, leave the other as it was, and write both."""
        import torch

        from imgflow.engines.networks.eraser import Eraser
        from imgflow.engines.shipped import load_weights
        from imgflow.training.loop import export, train

        names = sorted(self._photos)
        kept = names[::KEPT]
        shown = [self._photos[name] for name in names if name not in kept]
        samples = scenes([*shown, *self._textures], self._fonts, recipe.seed)
        unseen = scenes([self._photos[name] for name in kept], self._fonts, recipe.seed + 1)
        torch.manual_seed(recipe.seed)
        network = Eraser()
        if self._start is not None:
            own = network.state_dict()
            # The other part may have been of another shape when these were trained.
            begun = {
                name: value
                for name, value in load_weights(self._start).items()
                if name.startswith(part) or (name in own and own[name].shape == value.shape)
            }
            network.load_state_dict(own | begun)
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
    """The two judges of text: of lines that OCR reads, and of letters that it does not. Run again,
    it goes on where it stopped."""
    from random import Random

    from imgflow.engines.eraser import NeuralEraser
    from imgflow.engines.origin import look
    from imgflow.engines.rapidocr import RapidOcrDetector
    from imgflow.stages.text import survey
    from imgflow.synthesis.fonts import find_fonts
    from imgflow.synthesis.phrases import TRAINING
    from imgflow.training import origin as read
    from imgflow.training import unread
    from imgflow.training.photos import load_photos

    known = load_photos(photos)
    names = sorted(known)
    # The photos that the finder did not learn from are kept for the thresholds, and every fourth
    # case is made of those.
    kept = names[::KEPT]
    shown = [known[name] for name in names if name not in kept]
    unseen = [known[name] for name in kept]
    found = find_fonts(fonts, held_out=False)

    def make(number: int) -> read.Case:
        chance = Random(f"{seed}/{number}")
        return read.make_case(unseen if number % 4 == 3 else shown, TRAINING, found, chance)

    labels = read.collect(make, range(cases), RapidOcrDetector(), work / "cases", typer.echo)
    finder = NeuralEraser(weights=eraser)
    lines, groups = {}, {}
    for number, each in enumerate(labels):
        letters = survey(each.photo, finder)
        if each.regions:
            lines[number] = (look(each.photo, each.regions, letters), each)
        groups[number] = unread.groups_of(each, letters)
        if (number + 1) % 100 == 0:
            typer.echo(f"{number + 1} of {len(labels)} photos measured")

    def parts(of: dict[int, Any]) -> tuple[list[Any], list[Any]]:
        """Those to learn from, and those kept back."""
        kept_back = [each for number, each in of.items() if number % 4 == 3]
        return [each for number, each in of.items() if number % 4 != 3], kept_back

    about = {"seed": str(seed), "cases": str(cases)}
    taught, held = map(read.lessons, parts(lines))
    origins = read.teach(taught, held, seed)
    read.export(origins, work / "origin.safetensors", about)
    _tell("origin", {"taught": read.figures(origins, taught), "kept": read.figures(origins, held)})
    several, others = map(unread.together, parts(groups))
    judge = unread.teach(several, others, seed)
    unread.export(judge, work / "unread.safetensors", about)
    _tell(
        "unread", {"taught": unread.figures(judge, several), "kept": unread.figures(judge, others)}
    )
    typer.echo(f"weights: {work / 'origin.safetensors'}, {work / 'unread.safetensors'}")


@app.command("layers")
def layers_() -> None:
    """Write anew what ncnn is told of the networks: after a change of their shape."""
    from imgflow.engines.running import LAYERS
    from imgflow.training.layers import layers, tasks

    for name, task in tasks():
        path = LAYERS / f"{name}.param"
        path.write_text(layers(task), "ascii")
        typer.echo(path)


def _tell(judge: str, figures: dict[str, dict[str, float]]) -> None:
    for part, known in figures.items():
        told = ", ".join(f"{key} {value:.4g}" for key, value in known.items())
        typer.echo(f"{judge}, {part}: {told}")


if __name__ == "__main__":
    app()
