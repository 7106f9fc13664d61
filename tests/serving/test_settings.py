import math
from pathlib import Path

import pytest

from receptance.serving import Settings


def test_the_defaults_are_within_their_ranges():
    assert Settings().max_sequences == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_sequences", 0),
        ("request_seconds", 0.0),
        ("request_seconds", math.nan),
        ("state_cache_bytes", -1),
        ("port", 65536),
    ],
)
def test_a_limit_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Settings(**{name: value})


def test_a_folder_for_states_without_memory_for_one_is_refused():
    with pytest.raises(ValueError, match="`state_cache_folder` must be left out"):
        Settings(state_cache_folder=Path("a"), state_cache_bytes=0)


@pytest.mark.parametrize(
    "origin",
    [
        *("foo", "null", "", "a.example", "https://", "https://a.example/page", "//a.example"),
        *("https://me@a.example", "https://a.example:", "https://a example", "https://*.a.example"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin):
    with pytest.raises(ValueError, match="`cors_origins` must be origins such as"):
        Settings(cors_origins=("https://a.example", origin))


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "https://a.example", "https://a.example/", "http://localhost:3000"),
        *("http://[::1]:80", "HTTP://A.example", "tauri://localhost", "chrome-extension://abc"),
    ],
)
def test_an_origin_is_a_scheme_and_a_place(origin):
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "name", ["", "https://a.example", "a.example:80", "a..b", "*a", "a.*", "."]
)
def test_what_is_no_name_of_a_server_is_refused(name):
    with pytest.raises(ValueError, match="`allowed_hosts` must be names such as"):
        Settings(allowed_hosts=(name,))


@pytest.mark.parametrize("name", ["*", "a.example", "*.a.example", "10.0.0.1", "my_host-1"])
def test_a_name_may_have_others_below_it(name):
    assert Settings(allowed_hosts=(name,)).allowed_hosts == (name,)


def test_what_may_be_turned_off_may_be_zero():
    assert Settings(state_cache_bytes=0, coalesce_seconds=0.0, port=0).state_cache_bytes == 0
