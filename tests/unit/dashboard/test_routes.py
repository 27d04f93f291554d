import gzip
import re

from dashboard.routes import PAGE, files


def test_every_file_has_a_type_an_etag_and_a_packed_twin() -> None:
    for name, file in files().items():
        assert file.content_type in {"text/html", "text/javascript", "text/css", "image/svg+xml"}, name
        assert gzip.decompress(file.packed) == file.body
        assert file.etag


def test_the_page_loads_only_files_that_are_there_and_nothing_inline() -> None:
    known = files()
    text = known[PAGE].body.decode()
    loaded = re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', text)

    assert loaded
    assert all(place.removeprefix("/dashboard/") in known for place in loaded)
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", text)


def test_scripts_write_text_only_and_ask_nobody_else() -> None:
    for name, file in files().items():
        text = file.body.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
        assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', ""), name
        assert "https://" not in text, name


def test_the_page_is_small() -> None:
    assert sum(len(file.packed) for file in files().values()) < 45_000
