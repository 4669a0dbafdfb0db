"""Every operation: allowed and forbidden for each role, nobody, another method, what was not asked for."""

import pytest
from django.test import Client

from tests.api.operations import BODIES, EXPECTED, IDS, operations_declared, world_make
from tests.api.programs import ROLES, post, problem_of, program
from tests.web.factories import user_make

pytestmark = pytest.mark.django_db


def ask(client: Client, method: str, address: str, path: str = "", **extra):
    return client.get(address, **extra) if method == "get" else post(client, address, BODIES.get(path), **extra)


def test_every_operation_stands_in_the_table() -> None:
    assert operations_declared() == set(EXPECTED)


@pytest.mark.parametrize(("method", "path"), EXPECTED, ids=IDS)
def test_roles_that_may_are_let_in_and_others_are_not(as_role, method: str, path: str) -> None:
    world = world_make()
    for role in ROLES:
        answer = ask(as_role(role), method, world.address(path), path)
        if role in EXPECTED[(method, path)]:
            assert answer.status_code in (200, 409), (role, answer.content)
            assert "no-store" in answer["Cache-Control"]
        else:
            problem_of(answer, 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), EXPECTED, ids=IDS)
def test_nobody_is_asked_for_a_token(as_role, method: str, path: str) -> None:
    answer = ask(as_role(), method, world_make().address(path))
    problem_of(answer, 401, "not-authenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), EXPECTED, ids=IDS)
def test_session_of_a_person_serves_too_and_an_account_without_role_does_not(as_role, method: str, path: str) -> None:
    world = world_make()
    as_role()
    person = Client()
    person.force_login(user_make("administrator"))
    assert ask(person, method, world.address(path), path).status_code in (200, 409)
    nobody = Client()
    nobody.force_login(user_make(""))
    problem_of(ask(nobody, method, world.address(path)), 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), EXPECTED, ids=IDS)
def test_other_methods_are_refused(as_role, method: str, path: str) -> None:
    client, address = as_role("administrator"), world_make().address(path)
    for other in {"get", "post", "put", "patch", "delete", "options", "trace"} - {method}:
        answer = getattr(client, other)(address)
        problem_of(answer, 405, "method-not-allowed")
        assert answer["Allow"] == ("GET, HEAD" if method == "get" else "POST")


@pytest.mark.parametrize(("method", "path"), EXPECTED, ids=IDS)
def test_undeclared_parameters_and_fields_are_refused(as_role, method: str, path: str) -> None:
    client, address = as_role("administrator"), world_make().address(path)
    body = problem_of(ask(client, method, f"{address}?patientName=Muster"), 400, "invalid")
    assert body["errors"] == {"patientName": ["unknown"]}
    if method == "post":
        body = problem_of(post(client, address, {"is_superuser": True}), 400, "invalid")
        assert body["errors"] == {"is_superuser": ["unknown"]}


@pytest.mark.parametrize("path", [path for method, path in EXPECTED if method == "post"])
def test_session_needs_the_csrf_token(as_role, path: str) -> None:
    world = world_make()
    as_role()
    person = Client(enforce_csrf_checks=True)
    person.force_login(user_make("administrator"))
    problem_of(post(person, world.address(path)), 403, "forbidden")


@pytest.mark.parametrize("path", sorted({path for _method, path in EXPECTED if "{" in path}))
def test_what_is_not_there_is_404(as_role, path: str) -> None:
    method = next(method for method, known in EXPECTED if known == path)
    address = "/api/" + path.format(uid="1.2.3.4", lane=987654, alert=987654, object=987654, peer=987654)
    problem_of(ask(as_role("administrator"), method, address, path), 404, "not-found")
    for strange in ("9" * 30, "-1", "x", "%00", "1.2.3/../4"):
        address = "/api/" + path.format(
            uid=strange.replace("9" * 30, "x" * 65), lane=strange, alert=strange, object=strange, peer=strange
        )
        assert ask(as_role("administrator"), method, address, path).status_code in (400, 404)


def test_head_answers_as_get_without_a_body(as_role) -> None:
    answer = as_role("viewer").head("/api/studies")
    assert (answer.status_code, answer.content) == (200, b"")


def test_superuser_has_every_role(as_role) -> None:
    as_role()
    person = Client()
    person.force_login(user_make("", superuser=True))
    assert person.get("/api/system/diagnostics").status_code == 200


def test_switched_off_account_is_nobody(as_role) -> None:
    as_role()
    user = user_make("viewer")
    person = Client()
    person.force_login(user)
    user.is_active = False
    user.save()
    problem_of(person.get("/api/studies"), 401, "not-authenticated")


@pytest.mark.django_db
def test_before_set_up_programs_get_a_problem() -> None:
    problem_of(Client().get("/api/studies"), 403, "setup-unfinished")
    problem_of(program("viewer").get("/api/studies"), 403, "setup-unfinished")
    assert Client().get("/api/health").status_code == 200
