import pytest

from sidecar.places import ollama_url


@pytest.mark.parametrize(
    "host, url",
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:7", "http://box:7"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 - read, not bound
        (":7", "http://127.0.0.1:7"),
        ("[::1]:7", "http://[::1]:7"),
        ("https://ollama.example/", "https://ollama.example:443"),
        ("http://box:7/path/", "http://box:7/path"),
        ("box:port", "box:port"),
    ],
)
def test_the_ollama_address_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama_url(host) == url
