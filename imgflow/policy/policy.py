"""The policy: what the line repairs, with which engines, within which limits, and what it makes.

Defaults work without any file. Each stage takes its own settings only, so that a record can
name just what decided its output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from imgflow.errors import BadPolicy
from imgflow.policy.engines import EngineSettings
from imgflow.policy.text import Line
from imgflow.policy.yamlfile import explain, load_yaml, read_limited

AssetType = Literal["thumbnail", "web", "hero", "print", "social"]
Criticality = Literal["low", "normal", "high"]
Channel = Annotated[int, Field(ge=0, le=255)]
Part = Annotated[int, Field(ge=1, le=10_000)]

# Of an aspect: anything longer is a mistake, not a picture.
_MOST_OBLONG = 20


# Strict alone is not enough for numbers in a Literal: True == 1 and 2.0 == 2.
Whole = BeforeValidator(lambda value: str(value) if isinstance(value, bool | float) else value)
# Text and numbers are not converted into each other; YAML and JSON have no tuples.
STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Settings(BaseModel):
    """Base of all settings: unknown fields are errors, values never change."""

    model_config = STRICT

    def as_dict(self) -> dict[str, Any]:
        """JSON values, for records and fingerprints."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a manifest or the catalog says of an image; routes match on it. Empty: not said."""

    asset_type: str = ""
    category: str = ""
    criticality: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class RelativeArea(Settings):
    """Part of every photo, in shares of its width and height."""

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)


class RepairGates(Settings):
    """Thresholds of a fill, measured on a displaced probe and at the rim of the mask."""

    psnr: float = Field(14.0, ge=0, description="least PSNR under the probe's mask, dB")
    ssim: float = Field(0.4, ge=-1, le=1, description="least SSIM around the probe")
    haarpsi: float = Field(0.4, ge=0, le=1, description="least HaarPSI around the probe")
    edge_continuity: float = Field(
        1.8, ge=0, description="most that the mask's rim may show; 1: not at all"
    )
    gain: float | None = Field(
        1.25,
        ge=0,
        le=60,
        description="least PSNR that a repair wins, as its probes tell, dB; null: any",
    )
    unprobed_area: float = Field(
        0.03, ge=0, le=1, description="largest repair without a probe, share of the photo"
    )
    accept_artifacts: bool = Field(
        False, description="publish as accepted_with_artifacts instead of quarantining"
    )


class EnlargeGates(Settings):
    """Thresholds of an enlargement: it, and it made small again, against its source."""

    psnr: float = Field(26.0, ge=0, description="least PSNR, dB")
    ssim: float = Field(0.9, ge=-1, le=1, description="least SSIM")
    haarpsi: float = Field(0.85, ge=0, le=1, description="least HaarPSI")
    halo: float = Field(
        0.1, ge=0, le=1, description="most overshoot when made small again, share of the range"
    )
    edge_fidelity: float = Field(
        0.64, ge=0, le=1, description="how well edges keep their place, strength and smoothness"
    )
    artifact_rate: float = Field(
        0.1, ge=0, le=1, description="most of the photo that shows what its source has not"
    )
    lpips: float | None = Field(
        None, ge=0, description="most LPIPS, if its weights are installed; null: not asked"
    )
    accept_artifacts: bool = Field(
        False, description="publish as accepted_with_artifacts instead of quarantining"
    )


_OWN_UPSCALER = "sr"
# Copies of a photo that there are at most, and pixels from which on one is enough by default.
_MOST_LOOKS, _ONE_LOOK = 8, 640 * 480

# Here a buyer judges the very threads and pores, which an engine must not make up.
_TRUE_TEXTURES = (
    "knit",
    "knits",
    "knitwear",
    "crochet",
    "lace",
    "leather",
    "suede",
    "fur",
    "denim",
    "tweed",
    "velvet",
    "wool",
    "woven",
)


class RawSettings(Settings):
    """What is taken in."""

    keep_16_bit: bool = Field(False, description="keep 16 bits a channel instead of reducing to 8")
    max_pixels: int = Field(100_000_000, ge=1, description="most pixels of an upload")
    max_bytes: int = Field(256 * 1024 * 1024, ge=1, description="most bytes of an upload")
    measure: bool = Field(
        False, description="measure noise, sharpness and blocks at once; on where a route asks"
    )


class DetextSettings(Settings):
    """How overlaid text is found and removed."""

    text: Literal["overlays", "all", "none"] = Field(
        "overlays",
        description="overlays: remove what was put over the photo, not what is printed on the "
        "product; all: remove all text; none: only what a manifest asks for",
    )
    own_marks: list[Annotated[Line, Field(min_length=2)]] = Field(
        default_factory=list,
        description="marks that you put on photos: removed though they claim rights, and in doubt",
    )
    detector: Line = Field("rapidocr", description="text detector engine")
    fallback: Line | None = Field(None, description="detector where that one is not available")
    eraser: Line = Field("eraser", description="engine that finds strokes and takes them off")
    fill: Line = Field(
        "eraser", description="what fills the strokes: the eraser itself, or a fill engine"
    )
    min_confidence: float = Field(0.6, ge=0, le=1, description="least OCR confidence")
    mask_confidence: float = Field(
        0.35, ge=0, le=1, description="least clearness of the strokes; below it a person decides"
    )
    keep: list[RelativeArea] = Field(
        default_factory=list, description="areas where text is never touched"
    )
    context: int = Field(32, ge=4, le=1024, description="pixels around a hole that a fill sees")
    feather: int = Field(2, ge=0, le=64, description="pixels over which a fill is joined")
    gates: RepairGates = RepairGates()

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "mode" in given:
            raise ValueError("'mode' is called 'text' now: overlays, all or none")
        return given


class ObjectRule(Settings):
    """Things that may not belong in a photo, and what is to be done about them."""

    detector: Line = Field(description="object detector engine")
    labels: list[Annotated[Line, Field(min_length=1)]] = Field(
        default_factory=list, description="only these; empty: all that it proposes"
    )
    action: Literal["ask", "fill"] = Field("ask", description="ask: a person decides")
    min_confidence: float = Field(0.6, ge=0, le=1, description="less is not believed")
    keep_subject: bool = Field(
        True, description="what is large and central stays: people that are the subject"
    )
    max_area: float = Field(
        0.15, gt=0, le=1, description="of the photo; what is larger is never filled unasked"
    )
    grow: int = Field(6, ge=0, le=256, description="pixels around it that go too")
    prompt: Line = Field("", max_length=2000, description="what to paint instead")


_TEXTURE_HINTS = {
    "knit": "even knitted fabric, regular stitches",
    "knitwear": "even knitted fabric, regular stitches",
    "denim": "denim fabric, diagonal twill weave",
    "leather": "smooth leather with fine grain",
    "lace": "fine lace pattern",
    "wool": "woven wool fabric",
    "linen": "plain linen weave",
}


class InpaintSettings(Settings):
    """How regions are filled that a manifest names or a detector proposes."""

    fill: Line = Field("telea", description="fill engine")
    better: list[Annotated[Line, Field(min_length=1)]] = Field(
        default_factory=list,
        description="fill engines that are better, best first: used where the budget allows",
    )
    fallback: Line | None = Field(
        None, description="fill engine where that one is not available; null: a person decides"
    )
    context: int = Field(64, ge=4, le=2048, description="pixels around a hole that a fill sees")
    context_share: float = Field(
        0.5, ge=0, le=4, description="the same as a share of the hole's long side, if that is more"
    )
    feather: int = Field(4, ge=0, le=64, description="pixels over which a fill is joined")
    colour_transfer: bool = Field(
        True, description="an engine that repaints the surroundings too is shifted to their tones"
    )
    objects: list[ObjectRule] = Field(
        default_factory=list, max_length=20, description="what to look for, and to fill or ask"
    )
    text_first: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="a region without a prompt of which text covers this share goes to the "
        "eraser first; null: never",
    )
    texture_hints: dict[Line, Line] = Field(
        default_factory=lambda: dict(_TEXTURE_HINTS),
        description="words of a category, and what is added to the prompts of its photos",
    )
    gates: RepairGates = RepairGates(
        psnr=14.0, ssim=0.35, haarpsi=0.25, gain=None, unprobed_area=0.05
    )


class UpscaleSettings(Settings):
    """When and how a photo is enlarged, sharpened or freed of noise."""

    engine: Line = Field(_OWN_UPSCALER, description="enlarging engine")
    better: list[Annotated[Line, Field(min_length=1)]] = Field(
        default_factory=list,
        description="enlarging engines that are better, best first: used where the budget allows",
    )
    fallback: Line | None = Field(
        None,
        description="enlarging engine where engine or creative_engine is not available; null: a "
        "person decides",
    )
    sharpener: Line = Field("unsharp", description="engine for soft photos, at their own size")
    denoiser: Line = Field("nlmeans", description="engine for noisy photos, at their own size")
    denoiser_fallback: Line | None = Field(
        None, description="denoiser where that one is not available; null: a person decides"
    )
    mode: Literal["conservative", "creative"] = Field(
        "conservative",
        description="conservative: nothing is invented; creative: creative_engine enlarges",
    )
    creative_engine: Line | None = Field(
        None, description="engine of the creative mode, which may invent detail"
    )
    always_conservative: list[Annotated[Line, Field(min_length=1)]] = Field(
        default_factory=lambda: list(_TRUE_TEXTURES),
        description="categories never enlarged creatively, whatever the mode; a word of the "
        "category is enough",
    )
    character: Literal["auto", "clean", "photo"] = Field(
        "auto",
        description="which kind of photo the engine is told to expect: clean (sharp), photo "
        "(squeezed by JPEG, soft or noisy) or auto: measured",
    )
    looks: Literal["auto"] | Annotated[int, Field(ge=1, le=_MOST_LOOKS)] = Field(
        "auto",
        description="mirrored and turned copies that are enlarged, the mean of all being the "
        "result: 8 take eight times as long, for print; auto: as many as take imgflow's own engine "
        "no longer than one of 640 x 480",
    )
    min_long_side: int = Field(1000, ge=1, description="photos smaller than this are enlarged")
    max_scale: int = Field(4, ge=1, le=4, description="largest enlargement; 1: never")
    max_output_pixels: int = Field(100_000_000, ge=1, description="most pixels of a result")
    sharpen_below: float = Field(0.25, ge=0, le=1, description="sharpness that counts as soft")
    noise_limit: float = Field(4.0, ge=0, description="noisier photos (0..255) are not sharpened")
    denoise_above: float | None = Field(
        8.0, gt=0, description="noise (0..255) that is taken out of large photos; null: never"
    )
    blown_up_below: float = Field(
        0.8,
        ge=0,
        le=1,
        description="share of its pixels that the content must fill, else the photo counts as "
        "blown up by interpolation; 0: never",
    )
    photo_jpeg_step: float = Field(
        3.5,
        ge=0,
        description="levels that JPEG rounded to (3 at quality 90, 4 at 85): character photo",
    )
    photo_blockiness: float = Field(1.3, ge=1, description="blocks of JPEG: character photo")
    photo_noise: float = Field(4.0, ge=0, description="noise (0..255): character photo")
    photo_sharpness: float = Field(0.4, ge=0, le=1, description="softer: character photo")
    tile: int = Field(256, ge=64, le=4096, description="pixels a side of a tile")
    gates: EnlargeGates = EnlargeGates()

    def looks_for(self, engine: str, pixels: int) -> int:
        """How many copies of a photo of so many pixels an engine of that name enlarges."""
        if self.looks != "auto":
            return self.looks
        # Others may take seconds for each, or make up something else in each.
        return max(1, min(_MOST_LOOKS, _ONE_LOOK // pixels)) if engine == _OWN_UPSCALER else 1

    @model_validator(mode="after")
    def _creative_has_an_engine(self) -> UpscaleSettings:
        if self.mode == "creative" and self.creative_engine is None:
            raise ValueError(
                "the mode 'creative' needs an engine: name it in creative_engine, "
                "or set mode to conservative"
            )
        return self


class RenditionSettings(Settings):
    """One published file of each photo."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$", description="its name and file name")
    long_side: int = Field(ge=1, le=65500, description="most pixels of the long side")
    min_long_side: int | None = Field(
        None,
        ge=1,
        le=65500,
        description="photos smaller than this, or that show less in its frame, are enlarged for it",
    )
    format: Literal["jpeg", "webp", "png", "avif"] = "jpeg"
    quality: int = Field(88, ge=1, le=100, description="of lossy formats")
    dpi: int | None = Field(None, ge=1, le=2400, description="written into the file")
    background: tuple[Channel, Channel, Channel] = Field(
        (255, 255, 255), strict=False, description="behind transparent pixels in JPEG, and padding"
    )
    max_bytes: int | None = Field(None, ge=1, description="larger files are not deliverable")
    progressive: bool = Field(True, description="JPEG that is sharp step by step as it loads")
    lossless: bool = Field(False, description="WebP without loss; PNG always is")
    # A template, for example of a marketplace:
    # {name: market, long_side: 2000, aspect: [1, 1], trim: true, margin: 0.05}
    aspect: tuple[Part, Part] | None = Field(
        None, strict=False, description="width to height, [4, 5]; null: as the photo has it"
    )
    trim: bool = Field(
        False, description="to the subject, where it stands on a plain or transparent ground"
    )
    margin: float = Field(
        0.0,
        ge=0,
        le=0.4,
        description="least space around a trimmed subject, share of the short side",
    )
    padding: Literal["ground", "background"] = Field(
        "ground",
        description="what a plain ground is continued with: itself, or a soft change into the "
        "background where that is near to it",
    )
    scene: Literal["pad", "crop", "keep"] = Field(
        "pad",
        description="photos without a plain ground get the aspect by background at two sides, by "
        "cutting down to their centre, or not at all",
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> RenditionSettings:
        if self.lossless and self.format in ("jpeg", "avif"):
            raise ValueError(f"{self.format} is never lossless: use webp or png")
        if self.aspect and max(self.aspect) > _MOST_OBLONG * min(self.aspect):
            raise ValueError(f"aspect must not be more than {_MOST_OBLONG} to 1")
        if self.margin and not self.trim:
            raise ValueError("margin is the space around a trimmed subject: set trim to true")
        if self.scene != "pad" and self.aspect is None:
            raise ValueError(f"scene '{self.scene}' needs an aspect")
        return self

    @property
    def frames(self) -> bool:
        """Whether more is done to the photo than reducing it."""
        return self.trim or self.aspect is not None


class ProvenanceSettings(Settings):
    """What published files say of how they came to be."""

    details: bool = Field(
        True,
        description="models, seeds, prompts, hashes and the photo's key in XMP; false: only "
        "DigitalSourceType, copyright, creator and credit",
    )
    certificate: Line | None = Field(
        None,
        min_length=1,
        description="PEM file of your signing certificate and its issuers: files then carry C2PA "
        "content credentials; null: none",
    )
    key_env: str = Field(
        "IMGFLOW_C2PA_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$",
        description="environment variable with the path of its private key, a PEM file",
    )
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field(
        "es256", description="what the certificate's key signs with"
    )
    timestamp_url: Line | None = Field(
        None, pattern=r"^https?://", description="time stamp authority; null: none"
    )


class RetrySettings(Settings):
    """What happens after an error that may go away by itself."""

    budget: int = Field(2, ge=0, le=10, description="further tries for an image in a run")
    backoff_s: float = Field(1.0, ge=0, le=600, description="first wait, doubled each time")


class RunSettings(Settings):
    """How a run works."""

    batch_size: int = Field(64, ge=1, le=1000, description="images of one Dagster run")
    workers: int = Field(0, ge=0, le=256, description="worker processes; 0: one per core")
    image_timeout_s: float = Field(120.0, gt=0, description="an image that takes longer is stopped")
    load_timeout_s: float = Field(
        900.0,
        gt=0,
        description="what loading models may take for an image, which is not in its own time",
    )


class RefreshSettings(Settings):
    """What the daily comparison of uploads and records may do."""

    retire_missing: bool = Field(
        False, description="withdraw photos that are gone from the upload folder"
    )


class AlertSettings(Settings):
    """Who is told when the line needs a person. The webhook's address is a secret: it stands in
    an environment variable, never in the policy."""

    webhook_env: str = Field(
        "IMGFLOW_WEBHOOK",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$",
        description="environment variable with the webhook's address",
    )
    format: Literal["json", "slack"] = Field("json", description="what the webhook understands")
    timeout_s: float = Field(5.0, gt=0, le=15, description="longest wait for the webhook")
    dagster_url: Line = Field(
        "http://127.0.0.1:3000",
        pattern=r"^https?://",
        description="where the Dagster UI is, for links",
    )
    quarantine_rate: float = Field(
        0.2, ge=0, le=1, description="share of images needing a person above which people are told"
    )
    quarantine_window: int = Field(
        200, ge=1, le=5000, description="latest images that the share is taken of"
    )
    quarantine_min_images: int = Field(20, ge=1, description="fewer images tell nothing")

    @model_validator(mode="after")
    def _enough_fit_into_the_window(self) -> AlertSettings:
        if self.quarantine_min_images > self.quarantine_window:
            raise ValueError("quarantine_min_images must not be more than quarantine_window")
        return self


_PRESETS = {
    "default": "product photo of {prompt}, plain white background, soft even light, sharp",
    "shoes": "product photo of {prompt}, a pair of shoes, three-quarter view, white background",
    "knit": "product photo of {prompt}, knitted garment laid flat, white background, soft light",
    "jewellery": "macro product photo of {prompt}, white background, soft reflections",
    "furniture": "photo of {prompt} in a bright plain room, eye level, natural light",
}


class GenerateSettings(Settings):
    """How pictures are made for catalog rows without a photo, and for concepts."""

    engine: Line | None = Field(None, description="generator engine; null: nothing is generated")
    negative_prompt: Line = Field("text, watermark, logo, blurry", max_length=2000)
    presets: dict[Line, Line] = Field(
        default_factory=lambda: dict(_PRESETS),
        description="words around a {prompt} by a word of the category; default: of all others",
    )
    width: int = Field(768, ge=64, le=4096, description="pixels")
    height: int = Field(768, ge=64, le=4096, description="pixels")


class Budget(Settings):
    """What an image may take; null: whatever it takes. Chooses among the `better` engines."""

    seconds: float | None = Field(None, gt=0, description="per engine")
    cost: float | None = Field(None, ge=0, description="per engine, in the currency of services")


class Span(Settings):
    """A measured value, from `least` on and below `below`."""

    least: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Span:
        if self.least is None and self.below is None:
            raise ValueError("give least, below or both")
        return self

    def holds(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.below is None or value < self.below
        )


Measured = Literal["noise", "sharpness", "blockiness", "resolution", "megapixels", "long_side"]
MEASURED: tuple[Measured, ...] = get_args(Measured)

# Told apart by form, so that a wrong value is explained once and not for each of the two.
_ONE, _SEVERAL = Tag("one"), Tag("several")
_ONE_OR_SEVERAL = Discriminator(lambda value: "several" if isinstance(value, list) else "one")
_Category = Annotated[Line, Field(min_length=1)]


class Condition(Settings):
    """Which images a route is for: all of what is said must match; a list matches any of it."""

    asset_type: (
        Annotated[
            Annotated[AssetType, _ONE] | Annotated[list[AssetType], _SEVERAL], _ONE_OR_SEVERAL
        ]
        | None
    ) = None
    category: (
        Annotated[
            Annotated[_Category, _ONE] | Annotated[list[_Category], _SEVERAL], _ONE_OR_SEVERAL
        ]
        | None
    ) = None
    criticality: (
        Annotated[
            Annotated[Criticality, _ONE] | Annotated[list[Criticality], _SEVERAL], _ONE_OR_SEVERAL
        ]
        | None
    ) = None

    measured: dict[Measured, Span] = Field(
        default_factory=dict, description="of the photo as it came: noise, sharpness, megapixels"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if not (self.asset_type or self.category or self.criticality or self.measured):
            raise ValueError(
                "must name an asset_type, category or criticality, or something measured; "
                "what is for all images belongs outside of routes"
            )
        return self

    def matches(self, traits: Traits, measures: Mapping[str, float] | None = None) -> bool:
        """measures: of the raw version; None: not known yet, and then nothing measured matches."""
        return not self.misses(traits, measures)

    def misses(self, traits: Traits, measures: Mapping[str, float] | None = None) -> str:
        """Why the route is not for an image, in words; empty if it is."""
        for name, value in traits.as_dict().items():
            wanted = getattr(self, name)
            allowed = [wanted] if isinstance(wanted, str) else wanted
            if allowed is not None and value not in allowed:
                said = f"{name} is '{value}'" if value else f"nobody has said the {name}"
                return f"{said}, not {' or '.join(allowed)}"
        for measured, span in self.measured.items():
            found = (measures or {}).get(measured)
            if found is None:
                return f"{measured} is not measured"
            if not span.holds(found):
                least = "" if span.least is None else f"at least {span.least:g}"
                below = "" if span.below is None else f"below {span.below:g}"
                return f"{measured} is {found:.3g}, not " + " and ".join(
                    filter(None, [least, below])
                )
        return ""


class Route(Settings):
    """A partial policy for some images.

    `set` is nested like the policy itself: {"upscale": {"gates": {"psnr": 30}}}. Mappings are
    merged field by field, lists are replaced.
    """

    name: Line = Field(min_length=1, max_length=100)
    when: Condition
    set: dict[str, Any] = Field(description="the parts of the policy that differ")


# What is not known of a photo by its size alone.
_BLIND: tuple[Measured, ...] = ("noise", "sharpness", "blockiness", "resolution")
# Which field of each part its fallback stands in for.
_REPLACED_BY_FALLBACK = {"detext": "detector", "inpaint": "fill", "upscale": "engine"}

_DEFAULT_RENDITIONS = [
    RenditionSettings(name="web", long_side=1600),
    RenditionSettings(name="thumb", long_side=320, format="webp", quality=80),
    RenditionSettings(name="print", long_side=3600, quality=95, dpi=300),
]
_DEFAULT_ROUTES = [
    Route(
        name="social",
        when=Condition(asset_type="social"),
        set={
            "detext": {"gates": {"accept_artifacts": True}},
            "inpaint": {"gates": {"accept_artifacts": True}},
            "upscale": {"gates": {"accept_artifacts": True}},
        },
    )
]


class Policy(Settings):
    """Everything that can be set. Routes are applied in their order; later ones win."""

    version: Annotated[Literal[1], Whole] = 1
    raw: RawSettings = RawSettings()
    detext: DetextSettings = DetextSettings()
    inpaint: InpaintSettings = InpaintSettings()
    upscale: UpscaleSettings = UpscaleSettings()
    renditions: list[RenditionSettings] = Field(
        default_factory=lambda: list(_DEFAULT_RENDITIONS), min_length=1
    )
    provenance: ProvenanceSettings = ProvenanceSettings()
    retries: RetrySettings = RetrySettings()
    run: RunSettings = RunSettings()
    refresh: RefreshSettings = RefreshSettings()
    alerts: AlertSettings = AlertSettings()
    budget: Budget = Budget()
    generate: GenerateSettings = GenerateSettings()
    engines: dict[Annotated[Line, Field(min_length=1, max_length=100)], EngineSettings] = Field(
        default_factory=dict, description="engines of yours, by the names used above"
    )
    routes: list[Route] = Field(default_factory=lambda: list(_DEFAULT_ROUTES))

    @model_validator(mode="after")
    def _names_are_unique_and_routes_apply(self) -> Policy:
        for kind, names in (
            ("rendition", [each.name for each in self.renditions]),
            ("route", [each.name for each in self.routes]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind}s have the same name: {sorted(names)}")
        for route in self.routes:
            # A route that could not be applied is found now, not when its first image comes.
            if forbidden := set(route.set) & {
                "version",
                "routes",
                "run",
                "refresh",
                "alerts",
                "engines",
                "generate",
            }:
                raise ValueError(f"route '{route.name}' cannot set {sorted(forbidden)}")
            if route.when.measured and "raw" in route.set:
                raise ValueError(f"route '{route.name}' cannot set raw by what raw measures")
            try:
                with_route(self, route)
            except ValidationError as error:
                raise ValueError(f"route '{route.name}': {explain(error, Policy)}") from None
        return self

    def for_image(self, traits: Traits, measures: Mapping[str, float] | None = None) -> Routed:
        """The policy for an image of these traits. measures: of its raw version, once known."""
        policy = self.model_copy(update={"routes": []})
        applied = [route for route in self.routes if route.when.matches(traits, measures)]
        for route in applied:
            policy = with_route(policy, route)
        if any(set(route.when.measured) & set(_BLIND) for route in self.routes):
            policy = policy.model_copy(
                update={"raw": policy.raw.model_copy(update={"measure": True})}
            )
        return Routed(policy, tuple(route.name for route in applied))

    def on_fallback(self, part: str, role: str = "") -> Policy | None:
        """The policy with a fallback engine of a part (detext, inpaint, upscale) in its engine's
        place; None if the part names none. role: as in EngineUnavailable: `denoiser` for that of
        upscale, `text` for what inpaint has of detext."""
        if role == "text":
            return self.on_fallback("detext")
        settings = getattr(self, part)
        named = f"{role}_fallback" if role else "fallback"
        fallback = getattr(settings, named, None)
        if fallback is None:
            return None
        changes: dict[str, Any] = {role or _REPLACED_BY_FALLBACK[part]: fallback, named: None}
        if part == "upscale" and not role:
            changes["mode"] = "conservative"
        return self.model_copy(update={part: settings.model_copy(update=changes)})

    def digest(self) -> str:
        """sha256 of the policy's canonical JSON."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Routed:
    """A policy without routes, and the names of those that shaped it."""

    policy: Policy
    applied: tuple[str, ...]


def load_policy(path: Path | None) -> Policy:
    """The policy of a file, or the defaults for None. Raises BadPolicy."""
    if path is None:
        return Policy()
    try:
        text = read_limited(path)
    except OSError as error:
        raise BadPolicy(
            "policy_unreadable", f"the policy {path} cannot be read: {error.strerror}"
        ) from error
    return parse_policy(text, str(path))


def parse_policy(text: bytes, name: str) -> Policy:
    """The policy of a YAML text; `name` is what errors call it. Raises BadPolicy.

    What the text leaves out is as in the defaults.
    """
    try:
        document = load_yaml(text)
        if document is None:
            document = {}
        if not isinstance(document, dict):
            raise ValueError("it must be a mapping of fields")  # noqa: TRY004 - as all of them
        # Merged as a route is: one gate in the file leaves the stage's other gates as they are.
        return Policy.model_validate(_merged(Policy().model_dump(), document))
    except ValidationError as error:
        problem = explain(error, Policy, text)
    except ValueError as error:
        problem = str(error)
    raise BadPolicy(
        "policy_invalid",
        f"the policy {name} is not valid: {problem}",
        hint="`imgflow policy show` prints all fields with their values",
    )


def dump_policy(policy: Policy) -> str:
    """YAML that load_policy reads back."""
    text: str = yaml.safe_dump(policy.as_dict(), sort_keys=False, allow_unicode=True)
    return text


def with_route(policy: Policy, route: Route) -> Policy:
    """The policy for images that take this route alone. Raises ValidationError."""
    merged = _merged(policy.model_dump(), route.set)
    return Policy.model_validate({**merged, "routes": []})


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping):
            result[name] = _merged(base[name], value)
        else:
            result[name] = value
    return result
