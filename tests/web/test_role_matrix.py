"""W10, W24, W05: every address of the gateway, as every role and as nobody, by the right and by wrong methods."""

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent
from network.models import RemoteAE
from studies.models import QuarantinedObject, SourceActivity, Study
from tests.web.factories import uploaded_study_make, user_make, vault_make
from tests.web.role_matrix import OPEN, ROLES, RULES, Rule, rule_of

pytestmark = pytest.mark.django_db
ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route


# The API's operations have a table of their own, tests/api/operations.py, and a test that knows every one of them.
ALL = sorted({route for route in routes(get_resolver()) if not route.startswith("api/")})
KNOWN = [(route, rule) for route in ALL if (rule := rule_of(route)) is not None]
GUARDED = [(route, rule) for route, rule in KNOWN if rule.roles is not OPEN]


@pytest.fixture
def scene() -> dict[str, int]:
    """An object of each kind, so that no refusal is only "not found"."""
    user_make(username="first", superuser=True)
    vault = vault_make()
    study = uploaded_study_make(vault)
    alert = Alert.objects.create(key="k", code="disk-low", words="The disk is nearly full.")
    quarantined = QuarantinedObject.objects.create(sha256="2" * 64, size_bytes=1, code="not-part10", reason="No DICOM.")
    source = SourceActivity.objects.create(calling_ae_title="CT_1", first_at=now(), last_at=now())
    instance = study.instances.first()
    return {
        "instance": instance.pk,
        "series": instance.series_id,
        "source": source.pk,
        "quarantine": quarantined.pk,
        "study": study.pk,
        "lane": vault.lane_id,
        "alert": alert.pk,
        "vault": vault.pk,
        "peer": RemoteAE.objects.create(ae_title="PEER").pk,
        "user": user_make("viewer").pk,
    }


def address(route: str, rule: Rule, scene: dict[str, int], *, pk: int | None = None) -> str:
    values = {"pk": pk or scene[rule.pk], "object_id": pk or scene["study"], "content_type_id": 1, "url": "nowhere"}
    values |= {"study_pk": pk or scene["study"], "series_pk": pk or scene["series"]}
    values |= {"app_label": "core", "id": scene["study"], "uidb64": "MQ", "token": "x-y"}
    route = route.replace("(?P<url>.*)$", "nowhere")
    if route.startswith("admin/^"):
        route = re.sub(r"\^\(\?P<app_label>[^)]*\)/\$", "core/", route)
    return "/" + ARGUMENT.sub(lambda found: str(values[found[1]]), route)


def client_of(role: str, **options: bool) -> Client:
    client = Client(**options)
    client.raise_request_exception = True
    client.force_login(user_make(role))
    return client


def test_matrix_knows_every_address() -> None:
    unknown = [route for route in ALL if rule_of(route) is None]
    assert unknown == [], "add a line for each to tests/web/role_matrix.py"


def test_matrix_names_no_address_that_is_gone() -> None:
    assert [route for route in RULES if route not in ALL] == []


@pytest.mark.parametrize(("route", "rule"), GUARDED, ids=[route for route, _rule in GUARDED])
def test_strangers_are_led_to_the_login_and_change_nothing(route: str, rule: Rule, scene) -> None:
    before = (AuditEvent.objects.count(), Study.objects.get().state)
    for method in rule.methods:
        answer = getattr(Client(), method.lower())(address(route, rule, scene))
        if rule.program:
            assert answer.status_code in (401, 403), method
        else:
            assert answer.status_code == 302, method
            assert answer["Location"].startswith(("/login/?next=", "/admin/login/?next=")), method
    assert (AuditEvent.objects.count(), Study.objects.get().state) == before


@pytest.mark.parametrize(("route", "rule"), GUARDED, ids=[route for route, _rule in GUARDED])
def test_each_role_may_what_the_matrix_says_and_nothing_else(route: str, rule: Rule, scene) -> None:
    path, absent = address(route, rule, scene), address(route, rule, scene, pk=987654)
    for role in ROLES:
        client = client_of(role)
        for method in rule.methods:
            answers = [getattr(client, method.lower())(each) for each in (path, absent)]
            if role in rule.roles:
                assert answers[0].status_code < 500, (role, method)
                if not route.startswith("admin/"):  # where rows are mostly read-only, and lists have no add page
                    assert answers[0].status_code not in (401, 403, 405), (role, method)
            elif route.startswith("admin/"):
                followed = getattr(client, method.lower())(path, follow=True)
                assert followed.status_code == 403, (role, method)
            else:
                # the same for what is there and what is not: who may not look learns nothing
                assert [answer.status_code for answer in answers] == [403, 403], (role, method)


@pytest.mark.parametrize(("route", "rule"), KNOWN, ids=[route for route, _rule in KNOWN])
def test_wrong_methods_are_refused(route: str, rule: Rule, scene) -> None:
    client = client_of("administrator")
    path = address(route, rule, scene)
    known = {*rule.methods, *(("HEAD",) if "GET" in rule.methods else ())}
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "OPTIONS", "BREW"):
        if method in known or (rule.program and method == "OPTIONS"):
            continue
        answer = client.generic(method, path, headers={"X-HTTP-Method-Override": rule.methods[0]})
        assert answer.status_code == 405, method
        assert answer["Allow"]


@pytest.mark.parametrize(
    ("route", "rule"),
    [(route, rule) for route, rule in KNOWN if "POST" in rule.methods and route],
    ids=[route for route, rule in KNOWN if "POST" in rule.methods and route],
)
def test_every_post_needs_the_forms_token(route: str, rule: Rule, scene) -> None:
    client = client_of("administrator", enforce_csrf_checks=True)
    before = (AuditEvent.objects.count(), User.objects.count())
    answer = client.post(address(route, rule, scene), {"action": "delete_selected", "csrfmiddlewaretoken": "x" * 64})
    assert answer.status_code == 403
    assert (AuditEvent.objects.count(), User.objects.count()) == before


@pytest.mark.parametrize(("route", "rule"), KNOWN, ids=[route for route, _rule in KNOWN])
def test_a_switched_off_account_opens_nothing(route: str, rule: Rule, scene) -> None:
    if rule.roles is OPEN:
        return
    client = client_of("administrator")
    User.objects.filter(username__startswith="administrator").update(is_active=False)
    assert getattr(client, rule.methods[0].lower())(address(route, rule, scene)).status_code in (302, 401, 403)


@pytest.mark.parametrize("role", ROLES)
def test_pages_show_no_button_that_would_be_refused(role: str, scene) -> None:
    """What a role sees it may press: every form of the pages it can open."""
    client = client_of(role)
    for route, rule in KNOWN:
        if "GET" not in rule.methods or route.startswith(("admin/", "setup/", "account/link/")):
            continue
        answer = client.get(address(route, rule, scene))
        if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html"):
            continue
        forms = re.findall(r'<form method="post" action="([^"]+)"(.*?)</form>', answer.content.decode(), re.DOTALL)
        for target in {target for target, content in forms if "<button" in content}:
            if target.startswith(("/logout/", "/login/", "/account/")):
                continue
            pressed = Client()
            pressed.cookies = client.cookies
            assert pressed.post(target).status_code != 403, (route, target)


def test_every_settings_middleware_that_guards_is_there() -> None:
    names = [name.rsplit(".", 1)[1] for name in settings.MIDDLEWARE]
    order = ["ProxyMiddleware", "SecurityMiddleware", "CSPMiddleware", "MethodMiddleware", "CsrfViewMiddleware"]
    assert [name for name in names if name in order] == order
