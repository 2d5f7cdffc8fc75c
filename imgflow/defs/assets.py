"""The five versions of every photo, as one multi_asset that streams a batch through the chain."""

# No postponed annotations here: Dagster reads the op's signature.
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from imgflow.defs.alerts import outcome_tags
from imgflow.defs.checks import check_specs
from imgflow.defs.events import Stored, latest, report
from imgflow.defs.naming import PLAIN, Part
from imgflow.defs.orphans import process_tag
from imgflow.defs.partitions import partitions_of
from imgflow.defs.queue import CATALOG_TAG
from imgflow.defs.resources import GpuResource, HomeResource, Progress
from imgflow.home import Home
from imgflow.lineage.record import Version

if TYPE_CHECKING:
    from imgflow.batch import Order
    from imgflow.chain import Passage

_DESCRIPTIONS = {
    Version.RAW: "The upload as upright sRGB pixels; its original is archived untouched.",
    Version.DETEXTED: "Overlaid text (date stamps, captions, watermarks) found and removed.",
    Version.INPAINTED: "Regions that a manifest or a reviewer marked are filled.",
    Version.UPSCALED: "Enlarged or sharpened, where size or sharpness ask for it.",
    Version.PUBLISHED: "The renditions that the shop fetches.",
}


class RescueConfig(dg.Config):
    """keys: images to take, where they are no contiguous range of partitions; such a run has
    no partition of its own, so a crash shows in the run and in `imgflow status`, and not as a
    failed partition. force: make versions again although nothing has changed.
    """

    keys: list[str] = []
    force: bool = False


def version_specs(part: Part = PLAIN) -> list[dg.AssetSpec]:
    """One asset per version. Each depends on all earlier ones directly: a backfill of versions
    with a gap between them would otherwise silently lose what lies behind the gap."""
    versions = list(Version)
    label = "" if part.is_plain else f" Photos of {part.label}."
    partitions = partitions_of(part)
    return [
        dg.AssetSpec(
            key=part.path(version),
            deps=[part.path(earlier) for earlier in versions[:position]],
            description=_DESCRIPTIONS[version] + label,
            group_name=part.group,
            kinds={"python", "image"},
            owners=["team:photo-desk"],
            skippable=True,
            partitions_def=partitions,
            tags={} if part.is_plain else {CATALOG_TAG: part.catalog},
        )
        for position, version in enumerate(versions)
    ]


def rescue_of(part: Part = PLAIN) -> dg.AssetsDefinition:
    """The five versions of the photos of a partition set."""

    @dg.multi_asset(
        name=part.op,
        specs=version_specs(part),
        check_specs=check_specs(part),
        can_subset=True,
        pool="gpu",
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=64),
    )
    def rescue(
        context: dg.AssetExecutionContext,
        config: RescueConfig,
        home: HomeResource,
        gpu: GpuResource,
        progress: dg.ResourceParam[Progress],
    ) -> Iterator[Any]:
        yield from _rescue(context, config, home.home(part.catalog), gpu, progress, part)

    return rescue


def _rescue(
    context: dg.AssetExecutionContext,
    config: RescueConfig,
    home: Home,
    gpu: GpuResource,
    progress: Progress,
    part: Part,
) -> Iterator[Any]:
    """Take a batch of images through the selected versions.

    A gate that fails stops that image alone, and the run succeeds. Crashes are collected, and
    fail the run after its last image; so do versions that lack an earlier one.
    """
    from imgflow.batch import Order, run_batch
    from imgflow.store.keys import ImageKey

    context.instance.add_run_tags(context.run.run_id, process_tag())
    selected = {key.path[-1] for key in context.selected_asset_keys}
    order = Order(
        home=home,
        run_id=context.run.run_id,
        versions=tuple(version for version in Version if version in selected),
        force=config.force,
        compute=gpu.compute(),
        models=gpu.models(home),
    )
    keys = [ImageKey(key) for key in config.keys or context.partition_keys]
    # Read once, before the first worker: what is made under a later policy is then stale, and
    # never the other way round.
    codes = _code_versions(order.home, order.models)
    crashes, refused, stopped = [], [], 0
    for passage in run_batch(keys, order):
        yield from _report(context, passage, order, codes, part)
        if passage.stopped or passage.held:
            stopped += 1
            context.log.warning(_why(passage))
        for damaged in home.store.damaged(home.name, passage.key):
            context.log.warning(str(damaged))
        if passage.crash:
            crashes.append(_why(passage))
        if passage.missing:
            refused.append(f"{passage.key}: {passage.missing} is not made yet, select it as well")
        progress.passed(passage)
    context.instance.add_run_tags(context.run.run_id, outcome_tags(home.name, len(keys), stopped))
    problems = [
        f"{len(each)} of {len(keys)} images {what}: " + "; ".join(each)
        for each, what in ((crashes, "crashed"), (refused, "could not be made"))
        if each
    ]
    if problems:
        raise dg.Failure(". ".join(problems), allow_retries=False)


def with_code_versions(
    assets: Mapping[Part, dg.AssetsDefinition], home: Home, models: Path | None = None
) -> dict[Part, dg.AssetsDefinition]:
    """A catalog's assets with what decides their output under the policy now in force: after a
    change of it or of an engine, Dagster shows as stale what would come out differently.
    """
    codes = _code_versions(home, models)
    return {
        part: each.map_asset_specs(
            lambda spec: spec.replace_attributes(code_version=codes[Version(spec.key.path[-1])])
        )
        for part, each in assets.items()
    }


def _code_versions(home: Home, models: Path | None) -> dict[Version, str]:
    from imgflow.chain import line_code_versions
    from imgflow.equipment import equip

    policy = home.policy()
    return line_code_versions(policy, equip(home, policy, models=models))


def _report(
    context: dg.AssetExecutionContext,
    passage: "Passage",
    order: "Order",
    codes: dict[Version, str],
    part: Part,
) -> Iterator[dg.AssetMaterialization]:
    """The passage's steps as events, each with the versions that it was made from."""
    upstream: dict[Version, Stored] = {}
    made = {step.record.version: step.record for step in passage.steps}
    for version in Version:
        if not made:
            return
        if version in made:
            record = made.pop(version)
            stored = yield from report(
                context, record, order.home.store, upstream, codes[version], part
            )
        else:
            stored = latest(context.instance, version, passage.key, part)
        if stored is not None:
            upstream[version] = stored


def _why(passage: "Passage") -> str:
    last = passage.held or passage.last
    if last is None or last.reason is None:
        return f"{passage.key}: {passage.crash}"
    return f"{passage.key} stopped at {last.version}: {last.reason.message}"
