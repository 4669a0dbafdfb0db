"""The OpenAPI document is valid and complete, and docs/api.md says the same."""

import re
from io import StringIO

import pytest
from django.core.management import call_command

from gateway_project.wiring import problems
from gateway_project.wiring.api import access
from gateway_project.wiring.api.schema import schema_document
from tests.api.operations import EXPECTED
from tests.architecture.test_house import ROOT

PAGE = (ROOT / "docs/api.md").read_text()
LETTERS = {"V": "viewer", "O": "operator", "A": "administrator", "I": "integration"}
OPERATIONS = [
    (method, path, operation)
    for path, methods in schema_document()["paths"].items()
    for method, operation in methods.items()
]


def test_document_is_valid_without_a_warning() -> None:
    out, err = StringIO(), StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out, stderr=err)
    assert "openapi: 3.1.0" in out.getvalue()


def told() -> dict[tuple[str, str], tuple[set[str], str]]:
    """The table of operations in docs/api.md: roles and words."""
    rows = {}
    for line in PAGE.splitlines():
        match = re.match(r"\| `(GET|POST) (/api/\S+)` \|([ x]+)\|([ x]+)\|([ x]+)\|([ x]+)\| (.*) \|$", line)
        if match:
            marks = dict(zip(LETTERS.values(), match.groups()[2:6], strict=True))
            roles = {role for role, mark in marks.items() if mark.strip()}
            rows[(match[1].lower(), match[2])] = (roles, match[7])
    return rows


def test_page_has_every_operation_with_the_roles_of_the_code() -> None:
    expected = {("get", "/api/health"): {*LETTERS.values()}}
    for (method, path), roles in EXPECTED.items():
        if path != "schema/":
            expected[(method, "/api/" + re.sub(r"{(?!uid)\w+}", "{id}", path))] = set(roles)
    assert {key: roles for key, (roles, _words) in told().items()} == expected
    assert set(told()) == {(method, path) for method, path, _operation in OPERATIONS}


def test_page_names_every_parameter_and_its_bounds() -> None:
    for method, path, operation in OPERATIONS:
        words = told()[(method, path)][1]
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query":
                continue
            assert f"`{parameter['name']}`" in words, f"{path} {parameter['name']}"
            if "maximum" in parameter["schema"]:
                assert f"({parameter['schema']['minimum']}-{parameter['schema']['maximum']}" in words, path


def test_page_names_every_code_that_all_operations_share() -> None:
    codes = {code for code, _words in problems.DRF_CODES.values()} | {code for code, *_rest in problems.PAGES.values()}
    missing = [code for code in codes if f"`{code}`" not in PAGE]
    assert missing == []
    assert f"After {access.REFUSALS_ALLOWED} of those within {access.REFUSALS_SECONDS // 60} minutes" in PAGE


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _o in OPERATIONS])
def test_every_operation_is_described(method: str, path: str, operation: dict) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert {"200", "401"} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        kind = (
            "application/json"
            if status == "200" or (path == "/api/health" and status == "503")
            else "application/problem+json"
        )
        assert list(response["content"]) == [kind], status
    if method == "post":
        assert {"413", "415"} <= set(operation["responses"])


def test_every_number_asked_for_has_bounds() -> None:
    for _method, path, operation in OPERATIONS:
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query" and parameter["schema"].get("type") == "integer":
                assert {"minimum", "maximum", "default"} <= set(parameter["schema"]), path


def test_no_answer_has_a_field_for_a_secret() -> None:
    names = {
        name
        for component in schema_document()["components"]["schemas"].values()
        for name in component.get("properties", {})
    }
    assert "recipientKeyId" in names
    assert not names & {
        "token",
        "secretSha256",
        "proxy",
        "ca",
        "password",
        "recipientJwk",
        "receiptJwk",
        "path",
        "key" + "s",
    }


def asked_schemas() -> list[tuple[str, dict]]:
    """What may be asked: each parameter of an address and each field of a body, with its schema."""
    document = schema_document()
    found = []
    for method, path, operation in OPERATIONS:
        place = f"{method} {path}"
        found += [(f"{place} {each['name']}", each["schema"]) for each in operation.get("parameters", [])]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        name = body.get("$ref", "").rpartition("/")[2]
        fields = document["components"]["schemas"].get(name, {}).get("properties", {})
        found += [(f"{place} {key}", schema) for key, schema in fields.items()]
    return found


def test_every_text_and_number_that_is_asked_for_has_its_bounds_in_the_document() -> None:
    """What the document allows is not refused: NUL and numbers of thirty digits are."""
    bounds = {"string": {"pattern", "format", "enum"}, "integer": {"maximum", "format", "enum"}}
    asked = asked_schemas()
    assert len(asked) > 60
    for place, schema in asked:
        kinds = schema.get("type", "")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            assert bounds.get(kind, set(schema)) & set(schema), f"{place}: {schema}"
