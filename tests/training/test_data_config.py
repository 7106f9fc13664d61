"""A run reads one store or mixes several, and its file says which."""

from dataclasses import replace

import pytest

from receptance.errors import ConfigError
from receptance.training import config_to_toml, differences, parse_config, read_config
from receptance.training.data_config import DataConfig, SourceConfig
from receptance.training.run_folder import config_sha256
from tests.training.tiny_run import tiny_config

SOURCES = [{"name": "wiki", "store": "a", "weight": 3}, {"name": "code", "store": "b"}]


def mixed(*sources, **changed):
    given = list(sources) or SOURCES
    entries = {"ctx_len": 16, "batch_size": 4, "sources": given, **changed}
    return parse_config(
        {
            "name": "tiny",
            "model": {"n_layer": 2, "n_embd": 16},
            "data": entries,
            "training": {"steps": 12},
        },
        "run.toml",
    )


def test_sources_are_read_and_written_back_as_tables(tmp_path):
    config = mixed()

    assert config.data.stores == {"wiki": "a", "code": "b"}
    assert config.data.weights == {"wiki": 3.0, "code": 1.0}
    text = config_to_toml(config)
    assert text.count("[[data.sources]]\n") == 2
    assert "\nstore = " not in text.partition("[[")[0]
    (tmp_path / "run.toml").write_text(text)
    assert read_config(tmp_path / "run.toml") == config


def test_a_setting_of_a_source_is_changed_by_its_name(tmp_path):
    sources = [*SOURCES, {"name": "code.c", "store": "c"}]
    file = tmp_path / "run.toml"
    file.write_text(config_to_toml(mixed(*sources)))

    config = read_config(file, ["data.sources.code.c.store=x", "data.sources.code.weight=0.5"])

    assert config.data.stores == {"wiki": "a", "code": "b", "code.c": "x"}
    assert config.data.weights == {"wiki": 3.0, "code": 0.5, "code.c": 1.0}
    assert differences(read_config(file), config) == ["`data.sources.code.weight` was 1.0, now 0.5"]
    for key in ("data.sources.books.store", "data.sources.wiki", "data.sources.code."):
        with pytest.raises(ConfigError, match=r"one of the names \['wiki', 'code', 'code.c'\], a"):
            read_config(file, [f"{key}=x"])
    with pytest.raises(ConfigError, match=r"unknown key 'data.sources.0.stor'; .*0.store'"):
        read_config(file, ["data.sources.wiki.stor=x"])


def test_a_run_of_one_store_is_written_as_before_there_were_sources():
    text = config_to_toml(tiny_config())

    assert 'store = "store"\nstore_sha256 = ""\nctx_len = 16\n' in text
    assert "sources" not in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sources": []}, "either `store`, for one token store, or `sources`, .* has neither"),
        ({"store": "a"}, "either `store`, .* has both"),
        ({"store_sha256": "ab"}, "`data.store_sha256` must not be given beside `data.sources`"),
        ({"order": "authors"}, "`data.order` must be 'permuted' with `data.sources`"),
        ({"sources": [SOURCES[0], SOURCES[0]]}, "a `name` of its own, .* got 'wiki' among"),
        ({"sources": [{"name": "", "store": "a"}]}, "a `name` of its own, .* got ''"),
        ({"sources": [{"name": "a\n", "store": "a"}]}, "a `name` of its own"),
        ({"sources": [SOURCES[0] | {"weight": 0}]}, "weight of the source 'wiki' must be positive"),
        ({"sources": [SOURCES[0] | {"weight": 0.33333}, SOURCES[1]]}, "round them to fewer"),
        ({"sources": [{"name": "a"}]}, r"`data.sources.0.store` is missing"),
        ({"sources": [{"name": "a", "stor": "a"}]}, "unknown key 'data.sources.0.stor'; did you"),
        ({"sources": [SOURCES[0] | {"weight": "x"}]}, "`data.sources.0.weight` is 'x'"),
        ({"sources": "a"}, "`data.sources` is 'a'"),
        ({"sources": ["a"]}, "`data.sources.0` is 'a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_named(data, words):
    with pytest.raises(ConfigError, match=words):
        mixed(**data)


def test_where_stores_lie_makes_no_other_run_but_what_they_are_does():
    old = mixed()
    moved = mixed({**SOURCES[0], "store": "elsewhere"}, SOURCES[1])

    assert differences(old, moved) == []
    assert config_sha256(old) == config_sha256(moved)
    heavier = mixed({**SOURCES[0], "weight": 2}, SOURCES[1])
    assert differences(old, heavier) == ["`data.sources.wiki.weight` was 3.0, now 2.0"]
    assert differences(old, mixed(SOURCES[0])) == [
        "`data.sources` was ['wiki', 'code'], now ['wiki']"
    ]
    assert differences(old, mixed(*SOURCES[::-1]))
    hashed = replace(old, data=old.data.with_hashes({"wiki": "ab", "code": "cd"}))
    assert differences(old, hashed) == [
        "`data.sources.wiki.store_sha256` was '', now 'ab'",
        "`data.sources.code.store_sha256` was '', now 'cd'",
    ]
    assert len({config_sha256(each) for each in (old, heavier, hashed)}) == 3


def test_the_hash_of_one_store_is_where_it_was():
    data = DataConfig(store="a").with_hashes({"": "ab"})

    assert (data.store, data.store_sha256, data.without_places().store) == ("a", "ab", "")
    assert data.stores == {"": "a"}
    sources = DataConfig(sources=(SourceConfig(name="x", store="a"),)).with_hashes({"x": "ab"})
    assert sources.sources[0].store_sha256 == "ab"
