import pytest

from protocol.errors import BadInput
from protocol.model import EndpointKind
from sidecar.llm.config import EndpointSettings, is_loopback


@pytest.mark.parametrize(
    "url, local",
    [
        ("http://127.0.0.1:11434", True),
        ("http://localhost:11434", True),
        ("http://[::1]:8080/v1", True),
        ("http://192.168.1.7:11434", False),
        ("https://api.anthropic.com", False),
        ("http://127.0.0.1.evil.example", False),
    ],
)
def test_an_endpoint_on_this_machine_is_local_unless_told_otherwise(url: str, local: bool) -> None:
    assert is_loopback(url) is local
    assert EndpointSettings("a", EndpointKind.OLLAMA, url).is_local is local
    assert EndpointSettings("a", EndpointKind.OLLAMA, url, local=not local).is_local is not local


def test_every_problem_of_an_endpoint_is_named_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        EndpointSettings("bad/id", EndpointKind.OLLAMA, "ftp://x", num_ctx=1, stall_s=0.0)

    assert [problem.path for problem in caught.value.problems] == ["id", "url", "num_ctx", "stall_s"]


@pytest.mark.parametrize("kind", [EndpointKind.ANTHROPIC, EndpointKind.GEMINI])
def test_a_hosted_service_is_not_local_behind_a_proxy_on_this_machine(kind: EndpointKind) -> None:
    assert EndpointSettings("a", kind, "http://127.0.0.1:8080").is_local is False


@pytest.mark.parametrize("url", ["", "11434", "http://", "http://host:99999", "http://[::1"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="is no http or https address"):
        EndpointSettings("a", EndpointKind.OLLAMA, url)


def test_the_key_never_shows() -> None:
    assert "sk-secret" not in repr(
        EndpointSettings("a", EndpointKind.ANTHROPIC, "https://x.example", api_key="sk-secret")
    )
