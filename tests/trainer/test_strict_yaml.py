"""Strict YAML 1.2: scalars by the specification's tables, line numbers, and every kind of refusal."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import ConfigError
from trainer.strict_yaml import MAX_CHARACTERS, MAX_DEPTH, load, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # https://yaml.org/spec/1.2.2/#1032-tag-resolution, and scalars that YAML 1.1 reads differently
        ("1e-4", 1e-4),
        ("6E+3", 6000.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("+12", 12),
        ("-12", -12),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("~", None),
        ("null", None),
        ("", None),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-24", "2026-11-24"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        (".", "."),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("a b", "a b"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    read = load(f"key: {text}", name="x").value["key"]
    assert read == value
    assert type(read) is type(value)


def test_nan() -> None:
    assert math.isnan(load(".nan", name="x").value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:3: the key 'a' appears twice, first at line 1; keep one"),
        ("a:\n  b: 1\n  'b': 2", "x.yaml:3: the key 'b' appears twice, first at line 2; keep one"),
        ("a: 1\n2: b", "x.yaml:2: the key '2' is not text; quote it or write a name"),
        ("true: b", "x.yaml:1: the key 'true' is not text; quote it or write a name"),
        ("? [a]\n: b", "x.yaml:1: the key (a sequence) is not text; quote it or write a name"),
        ("a: !!str 5", "x.yaml:1: the tag 'tag:yaml.org,2002:str' is not read; write the plain value"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "x.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not read; write the plain value",
        ),
        ("a: 1\n---\nb: 2", "x.yaml:2: begins a second document; only one is read"),
        ("a:\n\t- b", "x.yaml:2: YAML is not indented with tabs; use spaces"),
        ("a: 1\nb: \x00", "x.yaml:2: holds the character U+0000; remove it"),
        ('a: "\\0"', "x.yaml:1: holds the character U+0000; remove it"),
        ('a: "\\ud800"', "x.yaml:1: holds the character U+D800; remove it"),
        ("a: b\ufeffc", "x.yaml:1: holds the character U+FEFF; remove it"),
        ("a: &a [*a]", "x.yaml:1: an alias refers to a value that contains it"),
        ("a: &a {<<: *a}", "x.yaml:1: an alias refers to a value that contains it"),
        ("a: *b", "x.yaml:1: is not valid YAML: found undefined alias 'b'"),
        ("a: {<<: 1}", "x.yaml:1: '<<' merges mappings, and this is not one"),
        ("a: b: c", "x.yaml:1: is not valid YAML: mapping values are not allowed here"),
        ("a: 99999999999999999999", "x.yaml:1: 99999999999999999999 does not fit into 64 bits"),
        ("[" * 5000, f"x.yaml:1: nests deeper than {MAX_DEPTH} levels"),
        ("a" * (MAX_CHARACTERS + 1), f"x.yaml: has {MAX_CHARACTERS + 1} characters; at most {MAX_CHARACTERS} are read"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(text, name="x.yaml")
    assert str(error.value) == message


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', "%YAML 2.0\n---\na: 1", "a: 'x", "@", "a: [1"])
def test_broken_documents(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml:(\d+:)? is not valid YAML"):
        load(text, name="x.yaml")


@pytest.mark.parametrize(
    ("first", "next_level"),
    [
        ("[lol]", "[{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}]"),
        ("{a: 1}", "{{<<: [{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}]}}"),
        ("{}", "{{<<: [{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}]}}"),
    ],
)
def test_a_billion_laughs_are_refused(first: str, next_level: str) -> None:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {next_level.format(f'*a{n - 1}')}" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 20000 values"):
        load("\n".join(lines), name="x")


@pytest.mark.parametrize("template", ["[*a{0}]", "{{<<: *a{0}}}", "{{b: *a{0}}}"])
def test_chains_of_aliases_are_bounded(template: str) -> None:
    lines = ["a0: &a0 {}"] + [f"a{n}: &a{n} {template.format(n - 1)}" for n in range(1, 400)]
    with pytest.raises(ConfigError, match="nests deeper"):
        load("\n".join(lines), name="x")


def test_merge_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 5\n"
    document = load(text, name="x")
    assert document.value["c"] == yaml.safe_load(text)["c"] == {"x": 5, "y": 2, "z": 4}
    assert document.line(("c", "x")) == 5


def test_lines() -> None:
    document = load("a: 1\nb:\n  - x\n  - y: 2\n    z:\n      3\n", name="x")
    assert [document.line(path) for path in [(), ("a",), ("b",), ("b", 1), ("b", 1, "z")]] == [1, 1, 2, 4, 5]
    assert document.line(("b", 1, "not", "there")) == 4
    assert document.line(("nowhere",)) == 1


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).value == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfea\x00", "is UTF-16 (byte 0); save it as UTF-8"),
        (b"a: \xe9", "is not UTF-8 (byte 3); save it as UTF-8"),
    ],
)
def test_files_in_other_encodings(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value) == f"{path}: {message}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "plateau.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*; did you mean .*plateau\.yaml\?"):
        read(tmp_path / "platau.yaml")
    with pytest.raises(ConfigError, match="it is a folder"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="null byte"):
        read("a\x00b")


@given(st.text(max_size=200) | st.text("abc01.e-+:{}[],&*!|>'\"#\n\t <~%?@`", max_size=200))
@settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        load(text, name="x")


# YAML folds line breaks inside quotes, and counts U+2028 and U+2029 as line breaks, unlike JSON
characters = st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab<=1", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.sampled_from([None, 2]))
@settings(deadline=None)
def test_json_is_yaml(value: Any, indent: int | None) -> None:
    assert load(json.dumps(value, ensure_ascii=False, indent=indent), name="x").value == value
