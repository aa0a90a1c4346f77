"""Image search, with ddgs itself against a server of our own."""

import os
from pathlib import Path

import pytest
from ddgs.engines import duckduckgo_images
from ddgs.utils import _extract_vqd

from pawprint.sources import search
from tests.support.world import Engine, Server, World


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """ddgs itself, its own client, its parsing and ranking: only the host it asks is another."""
    monkeypatch.chdir(tmp_path)
    engine = Engine({"black bear": 150, "teddy bear": 30})
    with Server({"/": engine.token, "/i.js": engine.pages}) as server:
        engine.base = server.base

        def get_vqd(self: duckduckgo_images.DuckduckgoImages, query: str) -> str:
            return _extract_vqd(
                self.http_client.request("GET", server.base, params={"q": query}).content, query
            )

        monkeypatch.setattr(duckduckgo_images.DuckduckgoImages, "search_url", server.base + "/i.js")
        monkeypatch.setattr(duckduckgo_images.DuckduckgoImages, "_get_vqd", get_vqd)
        yield engine


def searching(**more: object) -> search.SearchOptions:
    classes = {"black": ["black bear"], "teddy": ["teddy bear"]}
    values = {
        "kind": "search",
        "classes": classes,
        "pause": 0,
        "backend": "duckduckgo",
        "timeout": 5,
        **more,
    }
    return search.SearchOptions.model_validate(values)


def test_ddgs_is_asked_page_by_page_until_there_are_enough(engine: Engine):
    items = list(
        search.find_pictures(
            searching(max_results=120, region="uk-en", safesearch="off", type_image="photo"), Path()
        )
    )
    assert [sum(item.label == label for item in items) for label in ("black", "teddy")] == [120, 30]
    assert len({item.url for item in items}) == 150
    assert {item.credit.page for item in items} == {item.url for item in items}  # as Engine says
    assert {item.query for item in items if item.label == "black"} == {"black bear"}
    first = engine.asked[0]
    assert (first["l"], first["p"], "type:photo" in first["f"]) == ("uk-en", "-1", True)


def test_a_rate_limit_is_waited_out(engine: Engine):
    engine.refuse = 2
    items = list(search.find_pictures(searching(max_results=20), Path()))
    assert len(items) == 40
    assert not any(item.missing for item in items)


def test_a_search_that_is_refused_for_good_is_reported_and_the_others_kept(engine: Engine):
    engine.refuse = 4
    items = list(search.find_pictures(searching(max_results=20), Path()))
    assert [item.missing for item in items if item.missing] == [
        "0 of 20 found, then the search engine refused: No results found."
    ]
    assert sum(item.label == "teddy" for item in items) == 20


def test_what_was_found_is_not_searched_again_in_the_same_gathering(engine: Engine):
    first = list(search.find_pictures(searching(max_results=20), Path()))
    times = len(engine.asked)
    assert list(search.find_pictures(searching(max_results=20), Path())) == first
    assert len(engine.asked) == times
    list(search.find_pictures(searching(max_results=25), Path()))
    assert len(engine.asked) > times


def test_gather_by_search_without_a_network_says_so_in_the_rows(tmp_path: Path):
    """The whole stage with the real client: every search fails, and is reported by query."""
    world = World(tmp_path / "project")
    values = {
        "kind": "search",
        "classes": {"a": ["x"], "b": ["y"]},
        "pause": 0,
        "retries": 0,
        "timeout": 1,
    }
    world.use(values)
    process = world.start(env={**os.environ, "DDGS_PROXY": "http://127.0.0.1:1"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "gather.min_per_class is 1, but there are 0 a, 0 b" in errors.splitlines()[-1]
    assert len(world.metrics()["incomplete"]) == 2


def test_a_search_that_finds_nothing_is_reported_and_its_class_does_not_vanish(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(search.DDGS()), "images", lambda *_, **__: [])
    items = list(search.find_pictures(searching(), Path()))
    assert [(item.label, item.missing) for item in items] == [
        ("black", "the search engine finds nothing"),
        ("teddy", "the search engine finds nothing"),
    ]


def test_an_answer_that_breaks_the_parser_is_a_refusal(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    def images(*_: object, **__: object) -> None:
        raise KeyError("results")

    monkeypatch.setattr(type(search.DDGS()), "images", images)
    (first, _) = search.find_pictures(searching(retries=0), Path())
    assert first.missing == "0 of 150 found, then the search engine refused: 'results'"


def test_a_class_without_a_query_is_refused():
    with pytest.raises(ValueError, match="at least 1 item"):
        searching(classes={"a": ["x"], "b": []})


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("://", "'://'"),
        ("foo://127.0.0.1:1", "'foo://127.0.0.1:1'"),
        ("http://127.0.0.1:99999", "'http://127.0.0.1:99999'"),
        ("http://me:secret@", "''"),
        ("ftp://me:secret@127.0.0.1:1", "'127.0.0.1:1'"),
    ],
)
def test_an_odd_proxy_ends_the_search_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, shown: str
):
    monkeypatch.setenv("DDGS_PROXY", proxy)
    world = World(tmp_path / "project")
    world.use({"kind": "search", "classes": {"a": ["x"], "b": ["y"]}, "pause": 0, "retries": 0})
    line = world.refuse()
    assert f"the environment names the proxy {shown}" in line
    assert "secret" not in line


def test_a_proxy_without_a_scheme_is_taken_for_http(monkeypatch: pytest.MonkeyPatch):
    for given, used in (("proxy.example:8080", "http://proxy.example:8080"), ("tb", "tb")):
        monkeypatch.setenv("DDGS_PROXY", given)
        assert search._proxy() == used
