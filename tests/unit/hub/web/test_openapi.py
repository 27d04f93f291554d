import msgspec

from hub.web.openapi import document
from hub.web.routes import ROUTES


def test_the_document_tells_of_every_listed_route_once() -> None:
    told = document(ROUTES, "1.2.3")
    places = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}

    assert (told["openapi"], told["info"]["version"]) == ("3.1.0", "1.2.3")
    assert places == {(route.method, route.path) for route in ROUTES if route.is_listed}
    assert msgspec.json.encode(told)


def test_a_submission_may_be_one_task_or_many() -> None:
    submit = document(ROUTES, "1")["paths"]["/api/v1/tasks"]["post"]
    body = submit["requestBody"]

    assert body["required"] is True
    assert [part["$ref"].rsplit("/", 1)[1] for part in body["content"]["application/json"]["schema"]["anyOf"]] == [
        "TaskSpec",
        "TaskBatch",
    ]
    assert {"201", "400", "401", "403", "409", "413", "415", "422", "429", "503", "507"} == set(submit["responses"])


def test_a_body_that_may_be_left_out_is_not_required() -> None:
    assert document(ROUTES, "1")["paths"]["/api/v1/tasks/{id}/cancel"]["post"]["requestBody"]["required"] is False
