"""A policy works without a file, says what is wrong with one, and routes images."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imgflow.errors import BadPolicy
from imgflow.policy.policy import (
    Policy,
    Traits,
    UpscaleSettings,
    dump_policy,
    load_policy,
    parse_policy,
)

EXAMPLE = Path(__file__).parents[2] / "data" / "policy.yaml"


def refusal(text: str | bytes) -> str:
    with pytest.raises(BadPolicy) as caught:
        parse_policy(text.encode() if isinstance(text, str) else text, "p.yaml")
    assert caught.value.code == "policy_invalid"
    assert "p.yaml" in caught.value.what
    return caught.value.what.partition("is not valid: ")[2]


def route(name: str, when: str, changes: str) -> str:
    return f"- {{name: {name}, when: {{{when}}}, set: {{{changes}}}}}\n"


# Reading


def test_defaults_need_no_file() -> None:
    assert load_policy(None) == Policy()


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"{}", b"version: 1"])
def test_an_empty_file_is_the_defaults(text: bytes) -> None:
    assert parse_policy(text, "p.yaml") == Policy()


def test_the_example_shows_the_defaults() -> None:
    assert load_policy(EXAMPLE) == Policy()


def test_dump_and_load_are_a_round_trip(tmp_path: Path) -> None:
    text = "detext: {keep: [{x: 0, y: 0.5, width: 1, height: 0.5}]}\nroutes:\n"
    # Categories that look like a number, a date, a truth value or a merge must stay text.
    text += route("a", "category: ['1e5', '2024-01-01', 'yes', '<<', '08', '=', 'é']", "")
    policy = parse_policy(text.encode(), "p.yaml")
    file = tmp_path / "p.yaml"
    file.write_text(dump_policy(policy), "utf-8")
    assert load_policy(file) == policy
    assert load_policy(file).digest() == policy.digest()


ONE_LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)


@settings(deadline=None, max_examples=100)
@given(ONE_LINE)
def test_any_text_survives_dump_and_load(category: str) -> None:
    document = {"routes": [{"name": "a", "when": {"category": category}, "set": {}}]}
    policy = Policy.model_validate(document)
    assert parse_policy(dump_policy(policy).encode(), "p.yaml") == policy


@pytest.mark.parametrize("text", ["a\\nb", "\\0", "\\x85", "\\u2028"])
def test_text_is_one_line_without_control_characters(text: str) -> None:
    assert "must not contain control" in refusal(f'detext: {{fill: "{text}"}}')
    assert "must not contain control" in refusal(
        "routes:\n" + route("a", f'category: "{text}"', "")
    )


def test_what_a_file_leaves_out_keeps_its_default() -> None:
    gates = parse_policy(b"inpaint: {gates: {psnr: 12}}", "p.yaml").inpaint.gates
    assert gates == Policy().inpaint.gates.model_copy(update={"psnr": 12.0})


def test_whole_numbers_do_for_decimal_ones_and_lists_for_tuples() -> None:
    text = (
        b"upscale: {noise_limit: 5}\nrenditions: [{name: a, long_side: 9, background: [1, 2, 3]}]"
    )
    policy = parse_policy(text, "p.yaml")
    assert policy.upscale.noise_limit == 5.0
    assert policy.renditions[0].background == (1, 2, 3)


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadPolicy, match="cannot be read") as caught:
        load_policy(tmp_path / name)
    assert caught.value.code == "policy_unreadable"
    assert str(tmp_path) in caught.value.what


# Mistakes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "upscale:\n  max_scale: 9",
            "upscale.max_scale (line 2): Input should be less than or equal to 4 (given: 9)",
        ),
        (
            "detext:\n  text: some",
            "detext.text (line 2): Input should be 'overlays', 'all' or 'none' (given: 'some')",
        ),
        (
            "upscale:\n  mode: creative",
            "upscale (line 1): the mode 'creative' needs an engine: name it in creative_engine, "
            "or set mode to conservative",
        ),
        (
            "upscale:\n  tiel: 64",
            "upscale.tiel (line 2): there is no such field; did you mean 'tile'?",
        ),
        (
            "renditions:\n- name: a\n  long_side: 5\n- name: b\n",
            "renditions[1].long_side (line 4): is required",
        ),
        ("detext: 3", "detext (line 1): must be a mapping of fields (given: 3)"),
        (
            "routes:\n" + route("a", "asset_type: post", ""),
            "routes[0].when.asset_type (line 2): Input should be 'thumbnail', 'web', 'hero', "
            "'print' or 'social' (given: 'post')",
        ),
        (
            "routes:\n" + route("a", "criticality: [low, x]", ""),
            "routes[0].when.criticality[1] (line 2): Input should be 'low', 'normal' or 'high' "
            "(given: 'x')",
        ),
        (
            "routes:\n" + route("a", "category: c", "detext: {text: some}"),
            "route 'a': detext.text: Input should be 'overlays', 'all' or 'none' (given: 'some')",
        ),
    ],
)
def test_a_mistake_is_told_with_field_line_and_allowed_values(text: str, problem: str) -> None:
    assert refusal(text) == problem


@pytest.mark.parametrize(
    "text",
    [
        "raw: {max_pixels: '1'}",
        "raw: {max_pixels: 1.0}",
        "raw: {max_pixels: true}",
        "detext: {min_confidence: '0.5'}",
        "detext: {min_confidence: true}",
        "raw: {keep_16_bit: 'true'}",
        "raw: {keep_16_bit: 1}",
        "raw: {keep_16_bit: yes}",
        "detext: {fill: 3}",
        "version: true",
        "version: 1.0",
        "version: '1'",
    ],
)
def test_types_are_not_converted(text: str) -> None:
    assert "Input should be" in refusal(text)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("detext.gates.psnr", "-1"),
        ("detext.min_confidence", "1.1"),
        ("upscale.tile", "63"),
        ("run.workers", "-1"),
        ("run.image_timeout_s", "0"),
        ("run.image_timeout_s", ".inf"),
        ("retries.budget", "11"),
        ("alerts.quarantine_rate", "1.1"),
        ("alerts.timeout_s", "16"),
        ("alerts.format", "teams"),
        ("alerts.dagster_url", "localhost"),
        ("alerts.webhook_env", "https://hooks.example.com/secret"),
        ("alerts", "{quarantine_window: 5}"),
    ],
)
def test_values_out_of_range_are_refused(field: str, bad: str) -> None:
    text = "".join("{" + part + ": " for part in field.split("."))
    assert field in refusal(text + bad + "}" * (field.count(".") + 1))


def test_a_field_of_another_place_is_not_suggested() -> None:
    problem = refusal("batch_size: 3")
    assert "batch_size (line 1): there is no such field" in problem
    assert "did you mean" not in problem


def test_long_values_are_shortened() -> None:
    assert len(refusal(f"detext: {{text: {'x' * 5000}}}")) < 250
    assert len(refusal(f"{'x' * 900}: 1")) < 300
    assert "and 90 more" in refusal("renditions: [" + "{}," * 50 + "]")


@pytest.mark.parametrize(
    "text", ["detext: {mode: all}", "routes:\n" + route("a", "category: c", "detext: {mode: all}")]
)
def test_the_old_name_of_a_field_is_explained(text: str) -> None:
    assert "'mode' is called 'text' now: overlays, all or none" in refusal(text)


def test_names_are_unique() -> None:
    assert "two renditions" in refusal(
        "renditions: [{name: a, long_side: 1}, {name: a, long_side: 2}]"
    )
    assert "two routes" in refusal("routes:\n" + 2 * route("a", "category: c", ""))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x [1]\nb: [*x, *x]", "aliases (*name) are not allowed, line 2"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "the field 'c' stands twice, line 4"),
        ("a: !!timestamp abc", "tags (!name) are not allowed, line 1"),
        ("a: !!bool x", "tags (!name) are not allowed, line 1"),
        ("a: !!python/object:os.system {}", "tags (!name) are not allowed, line 1"),
        ("? [a]", "a field's name must be text, line 1"),
        ("a: 1\n---\nb: 1", "another document, line 2"),
        ("a: [", "line 1"),
        ('a: "\\ud800"', "surrogates"),
        (b"a: \xff", "#x00ff"),
        ("[" * 20_000, "nested too deeply"),
        ("#" * 1_000_001, "larger than 1000000 bytes"),
        ("[a]", "must be a mapping of fields"),
        ("a: " + "1" * 5000, ""),
    ],
)
def test_broken_yaml_is_refused(text: str | bytes, problem: str) -> None:
    assert problem in refusal(text)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(b"#" * 3_000_000)
    with pytest.raises(BadPolicy, match="larger than 1000000 bytes"):
        load_policy(file)


YAML_ISH = st.text(alphabet="a1:-?!&*<>=~{}[],.'\"|%@# \n\t0_\\xuTf", max_size=40)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=60), YAML_ISH).map(lambda text: text.encode("utf-8", "replace")))
@example(b"a: !!timestamp abc")
@example(b"a: 2024-13-45")
@example(b"a: 0b_")
@example(b"<<: 3")
@example(b"a: =")
@example(b"1: 2")
@example(b"~: 2")
def test_any_text_is_a_policy_or_a_bad_policy(text: bytes) -> None:
    parses_or_refuses(text)


VALID = dump_policy(Policy()).encode()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(VALID)), st.integers(0, 30), YAML_ISH)
def test_a_damaged_policy_is_a_policy_or_a_bad_policy(at: int, length: int, new: str) -> None:
    parses_or_refuses(VALID[:at] + new.encode() + VALID[at + length :])


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(list(Policy.model_fields)), VALUES, VALUES)
def test_any_value_in_any_field_is_a_policy_or_a_bad_policy(
    name: str, value: Any, inner: Any
) -> None:
    for document in (
        {name: value},
        {name: [value]},
        {name: dict.fromkeys(["gates", "keep", "text", "mode", "own_marks", "fill"], value)},
        {"routes": [{"name": "a", "when": {"category": inner}, "set": {name: value}}]},
    ):
        try:
            text = yaml.safe_dump(document).encode()
        except UnicodeEncodeError:
            continue
        parses_or_refuses(text)


def parses_or_refuses(text: bytes) -> None:
    try:
        policy = parse_policy(text, "p.yaml")
    except BadPolicy as error:
        str(error).encode()  # a person can be shown it
    else:
        policy.for_image(Traits())
        policy.digest()


# Routes


def routed(routes: str, **traits: str) -> tuple[Policy, tuple[str, ...]]:
    result = parse_policy(("routes:\n" + routes).encode(), "p.yaml").for_image(Traits(**traits))
    return result.policy, result.applied


def test_routes_apply_in_order_and_later_ones_win() -> None:
    routes = (
        route("first", "category: shoes", "upscale: {max_scale: 2, gates: {psnr: 30}}")
        + route("other", "category: hats", "upscale: {max_scale: 1}")
        + route("second", "asset_type: hero", "upscale: {max_scale: 3}")
    )
    policy, applied = routed(routes, category="shoes", asset_type="hero")
    assert applied == ("first", "second")
    assert policy.upscale.max_scale == 3
    assert policy.upscale.gates.psnr == 30
    assert policy.upscale.gates.ssim == Policy().upscale.gates.ssim
    assert policy.routes == []


def test_a_route_replaces_lists() -> None:
    routes = route("a", "category: c", "renditions: [{name: one, long_side: 9}]")
    policy, _ = routed(routes, category="c")
    assert [each.name for each in policy.renditions] == ["one"]


@pytest.mark.parametrize(
    ("when", "traits", "matches"),
    [
        ("category: a", {"category": "a"}, True),
        ("category: a", {"category": "b"}, False),
        ("category: a", {}, False),
        ("category: [a, b]", {"category": "b"}, True),
        ("category: [a, b]", {"category": "c"}, False),
        ("category: a, criticality: high", {"category": "a"}, False),
        ("category: a, criticality: high", {"category": "a", "criticality": "high"}, True),
    ],
)
def test_all_that_a_route_names_must_match(
    when: str, traits: dict[str, str], matches: bool
) -> None:
    _, applied = routed(route("r", when, ""), **traits)
    assert applied == (("r",) if matches else ())


def test_social_images_may_show_small_artifacts_by_default() -> None:
    social = Policy().for_image(Traits(asset_type="social"))
    assert social.applied == ("social",)
    assert social.policy.detext.gates.accept_artifacts
    plain = Policy().for_image(Traits())
    assert plain.applied == ()
    assert plain.policy == Policy().model_copy(update={"routes": []})


@pytest.mark.parametrize("when", ["", "category: null", "category: []"])
def test_a_route_for_everything_is_refused(when: str) -> None:
    problem = refusal("routes:\n" + route("a", when, ""))
    assert "routes[0].when" in problem
    assert "must name an asset_type, category or criticality" in problem


@pytest.mark.parametrize(
    "changes",
    [
        "version: 1",
        "routes: []",
        "run: {workers: 1}",
        "alerts: {quarantine_rate: 0.5}",
        "upscale.max_scale: 2",
        "upscale: {max_scale: 9}",
        "upscale: {nothing: 1}",
        "1: 2",
    ],
)
def test_a_bad_route_is_found_at_load(changes: str) -> None:
    assert "route" in refusal("routes:\n" + route("a", "category: c", changes))


# Digest


def test_the_digest_depends_on_content_alone() -> None:
    one = parse_policy(b"run: {workers: 1}\nraw: {max_pixels: 5}", "p.yaml")
    other = parse_policy(b"# else\nraw: {max_pixels: 5}\nrun: {workers: 1}", "q.yaml")
    assert one.digest() == other.digest()
    assert one.digest() != Policy().digest()
    assert len(one.digest()) == 64
    assert parse_policy(b"retries: {backoff_s: 1}", "p.yaml").digest() == Policy().digest()


def test_a_route_for_low_criticality_may_be_creative() -> None:
    policy = parse_policy(
        b"routes:\n- name: mood\n  when: {criticality: low}\n"
        b"  set: {upscale: {mode: creative, creative_engine: atelier}}\n",
        "policy.yaml",
    )
    assert policy.for_image(Traits(criticality="low")).policy.upscale.creative_engine == "atelier"
    for other in ("", "normal", "high"):
        settings = policy.for_image(Traits(criticality=other)).policy.upscale
        assert (settings.mode, settings.creative_engine) == ("conservative", None)


def test_a_route_that_is_creative_without_an_engine_is_refused() -> None:
    text = (
        b"routes:\n- name: mood\n  when: {criticality: low}\n  set: {upscale: {mode: creative}}\n"
    )
    with pytest.raises(BadPolicy, match=r"route 'mood': .*name it in creative_engine"):
        parse_policy(text, "policy.yaml")


def test_an_engine_of_no_known_use_is_told_what_there_is() -> None:
    with pytest.raises(BadPolicy, match=r"engines\.mine\.use.*'remote'"):
        parse_policy(b"engines:\n  mine: {}\n", "p.yaml")
    with pytest.raises(BadPolicy, match="engines"):
        parse_policy(b"engines:\n  '': {}\n", "p.yaml")


@pytest.mark.parametrize(
    ("size", "looks"),
    [((10, 10), 8), ((320, 240), 4), ((450, 300), 2), ((640, 480), 1), ((4000, 3000), 1)],
)
def test_small_photos_are_looked_at_as_often_as_a_larger_one_takes(
    size: tuple[int, int], looks: int
) -> None:
    settings = UpscaleSettings()
    assert settings.looks_for("sr", size[0] * size[1]) == looks
    assert settings.looks_for("somebody-elses", size[0] * size[1]) == 1
    assert UpscaleSettings(looks=3).looks_for("sr", size[0] * size[1]) == 3
    assert UpscaleSettings(looks=3).looks_for("somebody-elses", 1) == 3


@pytest.mark.parametrize("looks", [0, 9, "some"])
def test_other_numbers_of_looks_are_refused(looks: object) -> None:
    with pytest.raises(ValidationError):
        UpscaleSettings.model_validate({"looks": looks})
