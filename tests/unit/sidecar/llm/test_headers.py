import httpx

from sidecar.llm.headers import bare


async def test_only_what_carries_the_request_is_left() -> None:
    request = httpx.Request(
        "POST", "http://box.example/v1", json={}, headers={"Authorization": "x", "OpenAI-Project": "x"}
    )

    await bare(request)

    assert sorted(request.headers) == ["content-length", "content-type", "host"]
