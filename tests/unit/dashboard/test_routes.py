import gzip
import hashlib
import json
import re

from dashboard.routes import PAGE, files, policy

OURS = {
    name: file.body.decode()
    for name, file in files().items()
    if not name.startswith("vendor/") and not name.endswith(".md")
}
SCRIPTS = {name: text for name, text in OURS.items() if name.endswith(".js")}


def test_every_file_has_a_type_an_etag_and_a_packed_twin() -> None:
    known = {"text/html", "text/javascript", "text/css", "text/plain", "image/svg+xml", "application/json"}
    for name, file in files().items():
        assert file.content_type in known, name
        assert gzip.decompress(file.packed) == file.body
        assert file.etag


def test_the_page_loads_only_files_that_are_there_and_nothing_inline_but_the_map_of_modules() -> None:
    text = OURS[PAGE]
    loaded = re.findall(r'(?:src|href)="dashboard/([^"]+)"', text)
    [modules] = re.findall(r'<script type="importmap">(.*?)</script>', text)
    mapped = [place.removeprefix("./dashboard/") for place in json.loads(modules)["imports"].values()]

    assert loaded
    assert set(loaded) | set(mapped) <= set(files())
    assert not re.search(r"<script(?![^>]*(?:src=|importmap))|<style|\son\w+=|style=", text)


def test_the_policy_names_the_map_of_modules_and_no_other_script() -> None:
    told = policy(files()[PAGE].body)

    assert re.search(r"script-src 'self' 'sha256-[A-Za-z0-9+/]{43}='", told)
    assert "unsafe" not in told
    assert policy(files()[PAGE].body.replace(b'{"imports"', b'{ "imports"')) != told


def test_every_module_that_is_imported_is_there() -> None:
    [modules] = re.findall(r'<script type="importmap">(.*?)</script>', OURS[PAGE])
    known = set(json.loads(modules)["imports"])
    for name, text in SCRIPTS.items():
        folder = name.rpartition("/")[0]
        for wanted in re.findall(r'(?:from|import\()\s*"([^"]+)"', text):
            if wanted.startswith("."):
                place = wanted.removeprefix("./") if not folder else f"{folder}/{wanted.removeprefix('./')}"
                place = re.sub(r"[^/]+/\.\./", "", place)
                assert place in files(), f"{name}: {wanted}"
            else:
                assert wanted in known, f"{name}: {wanted}"


def test_scripts_write_text_only_and_ask_nobody_else() -> None:
    for name, text in OURS.items():
        wanted = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|dangerouslySet"
        assert not re.search(wanted, text), name
        assert "http://" not in re.sub(
            r'xmlns="http://www.w3.org/2000/svg"|placeholder="http://box:11434"|http://127\.0\.0\.1:11434', "", text
        ), name
        assert "https://" not in text, name


def test_what_others_wrote_is_what_they_published() -> None:
    said = json.loads(files()["vendor/manifest.json"].body)
    there = {name.removeprefix("vendor/") for name in files() if name.startswith("vendor/")} - {
        "manifest.json",
        "LICENCES.txt",
    }

    assert set(said) == there
    for name, entry in said.items():
        assert hashlib.sha256(files()[f"vendor/{name}"].body).hexdigest() == entry["sha256"], name
        assert entry["version"]
        assert entry["licence"] in {"MIT", "Apache-2.0"}


def test_the_first_view_is_small() -> None:
    linked = re.findall(r'(?:src|href)="dashboard/([^"]+)"', OURS[PAGE])
    first = {PAGE, "views/overview.js", *linked}

    assert len(first) <= 13  # with the stream and what a view asks for: 15 requests
    assert sum(len(files()[name].packed) for name in first) < 45_000
    assert sum(len(file.packed) for file in files().values()) < 150_000
