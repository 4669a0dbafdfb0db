"""One's own account: sessions, password; one-time links; accounts in the admin; the commands."""

import re
import time
from datetime import timedelta
from io import StringIO
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, LoginCount, WebSession
from gateway_project.wiring.addresses import browser_words, client_address
from gateway_project.wiring.people import password_link
from gateway_project.wiring.tasks import sessions_clear
from tests.web.factories import PASSWORD, user_make

pytestmark = pytest.mark.django_db
NEW = "another long one 8"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(autouse=True)
def first() -> User:
    return user_make(username="first", superuser=True)


def logged_in(username: str = "anna", password: str = PASSWORD, **extra: object) -> Client:
    client = Client(**extra)
    assert client.post("/login/", {"username": username, "password": password}).status_code == 302
    return client


def link_of(user: User) -> str:
    return password_link(user, actor="user:first")


@pytest.mark.parametrize("role", ["viewer", "operator", "administrator", "integration", ""])
def test_everybody_who_can_log_in_sees_their_own_role_and_sessions(role: str, django_assert_max_num_queries) -> None:
    user_make(role, username="anna")
    client = logged_in(headers={"User-Agent": FIREFOX})
    with django_assert_max_num_queries(9):
        html = client.get("/account/").content.decode()
    assert (f"<b>{role.capitalize()}</b>" in html) == bool(role)
    assert "Firefox on Linux" in html
    assert "this one" in html
    assert client.session.session_key not in html


def test_others_sessions_are_shown_and_ended_at_once() -> None:
    user_make("viewer", username="anna")
    user_make("viewer", username="berta")
    here, there, berta = logged_in(), logged_in(REMOTE_ADDR="10.1.1.1"), logged_in("berta")
    assert "10.1.1.1" in here.get("/account/").content.decode()
    assert here.get("/account/sessions/end/").status_code == 405
    answer = here.post("/account/sessions/end/", follow=True)
    assert "1 other session was ended" in answer.content.decode()
    assert there.get("/account/").status_code == 302
    assert (here.get("/account/").status_code, berta.get("/account/").status_code) == (200, 200)
    assert AuditEvent.objects.filter(detail__action="sessions ended", detail__sessions_ended=1).exists()


def test_password_is_changed_and_every_other_session_ends() -> None:
    user_make("viewer", username="anna")
    here, there = logged_in(), logged_in()
    before = here.session.session_key
    new = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    answer = here.post("/account/password/", new, follow=True)
    assert "The new password counts from now on. 1 other session was ended." in answer.content.decode()
    assert here.session.session_key != before
    assert there.get("/account/").status_code == 302
    logged_in(password=NEW)
    assert AuditEvent.objects.filter(detail__action="password changed").count() == 1
    assert NEW not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"old_password": "wrong"}, "old password was entered incorrectly"),
        ({"new_password2": "different one 9"}, "password fields"),
        ({"new_password1": "short", "new_password2": "short"}, "too short"),
        ({"new_password1": "", "new_password2": ""}, "required"),
    ],
)
def test_password_that_cannot_be_changed_says_why_and_stays(values: dict[str, str], words: str) -> None:
    user_make("viewer", username="anna")
    client = logged_in()
    good = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    html = client.post("/account/password/", good | values).content.decode()
    assert words in html
    assert NEW not in html
    logged_in()


def test_session_hours_count_for_sessions_that_exist(monkeypatch) -> None:
    user_make("viewer", username="anna")
    client = logged_in()
    session = client.session
    session["slid_at"] = int(time.time()) - 2 * 3600
    session.save()
    monkeypatch.setenv("GATEWAY_WEB__SESSION_HOURS", "1")
    assert client.get("/studies/").status_code == 302
    assert logged_in().cookies["gateway_session"]["max-age"] == 3600


def test_cookie_is_for_the_server_alone_and_for_tls_when_there_is_tls(settings) -> None:
    user_make("viewer", username="anna")
    cookie = logged_in().cookies["gateway_session"]
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Strict", "")
    settings.SESSION_COOKIE_SECURE = True
    assert logged_in().cookies["gateway_session"]["secure"] is True


def test_ended_sessions_are_removed() -> None:
    user_make("viewer", username="anna")
    logged_in()
    sessions_clear(now() + timedelta(hours=7))
    assert WebSession.objects.count() == 1
    sessions_clear(now() + timedelta(hours=9))
    assert WebSession.objects.count() == 0


# -- one-time links ----------------------------------------------------------------------------------------------------


def choose(client: Client, link: str, password: str = NEW) -> object:
    form = client.get(link, follow=True)
    address = form.redirect_chain[-1][0] if form.redirect_chain else link
    return client.post(address, {"new_password1": password, "new_password2": password}, follow=True)


def test_link_works_once_ends_the_sessions_and_leads_to_the_login() -> None:
    anna = user_make("viewer", username="anna")
    before, link = logged_in(), link_of(anna)
    answer = choose(Client(), link)
    assert answer.redirect_chain[-1][0] == "/login/"
    assert "Your password is set" in answer.content.decode()
    assert before.get("/studies/").status_code == 302
    logged_in(password=NEW)
    assert "does not work any more" in Client().get(link, follow=True).content.decode()
    assert AuditEvent.objects.filter(detail__action="password chosen by link").exists()


def test_link_used_in_a_browser_that_is_logged_in_with_that_account() -> None:
    anna = user_make("viewer", username="anna")
    client = logged_in()
    assert choose(client, link_of(anna)).status_code == 200
    assert client.get("/studies/").status_code == 302


def test_token_does_not_stay_in_the_address() -> None:
    link = link_of(user_make("viewer", username="anna"))
    answer = Client().get(link)
    assert answer.status_code == 302
    assert link.rsplit("/", 2)[1] not in answer["Location"]
    assert "no-store" in answer["Cache-Control"]


def test_link_of_a_switched_off_account_and_a_forged_one_do_not_work() -> None:
    anna = user_make("viewer", username="anna")
    link = link_of(anna)
    forged = link.rsplit("-", 1)[0] + "-" + "0" * 32 + "/"
    assert "does not work any more" in Client().get(forged, follow=True).content.decode()
    anna.is_active = False
    anna.save()
    assert "does not work any more" in Client().get(link, follow=True).content.decode()


def test_weak_password_is_refused_by_the_link() -> None:
    link = link_of(user_make("viewer", username="anna"))
    assert "too short" in choose(Client(), link, "short").content.decode()


# -- accounts in the admin ---------------------------------------------------------------------------------------------


def account_page(user: User) -> str:
    return reverse("admin:auth_user_change", args=(user.pk,))


def groups(*names: str) -> list[int]:
    return [Group.objects.get_or_create(name=name)[0].pk for name in names]


def test_account_is_made_with_a_role_and_without_a_password(administrator) -> None:
    new = {"username": "neu", "groups": groups("operator"), "password1": NEW, "password2": NEW, "is_superuser": "on"}
    assert administrator.post(reverse("admin:auth_user_add"), new).status_code == 302
    user = User.objects.get(username="neu")
    assert (user.has_usable_password(), user.is_superuser, user.is_staff) == (False, False, False)
    assert AuditEvent.objects.filter(subject=f"user:{user.pk}", detail__roles=["operator"]).exists()
    html = administrator.get(account_page(user)).content.decode()
    assert "not set yet" in html
    assert "md5" not in html
    answer = administrator.post(reverse("admin:auth_user_link", args=(user.pk,)))
    assert "no-store" in answer["Cache-Control"]
    link = re.search(r'value="http://testserver(/account/link/[^"]+)"', answer.content.decode())
    assert link is not None
    choose(Client(), link[1])
    assert logged_in("neu", NEW).get("/studies/").status_code == 200


def test_making_a_link_takes_a_post(administrator) -> None:
    assert administrator.get(reverse("admin:auth_user_link", args=(user_make("viewer").pk,))).status_code == 405


@pytest.mark.parametrize("role", ["viewer", "operator", "integration"])
def test_others_make_no_links(client_as, role: str) -> None:
    answer = client_as(role).post(reverse("admin:auth_user_link", args=(user_make("viewer").pk,)), follow=True)
    assert answer.status_code == 403


@pytest.fixture
def client_as(first: User):
    def log_in(role: str) -> Client:
        client = Client()
        client.force_login(user_make(role))
        return client

    return log_in


@pytest.fixture
def administrator(client_as) -> Client:
    return client_as("administrator")


def test_superusers_get_no_link_from_an_administrator(administrator, first) -> None:
    assert administrator.post(reverse("admin:auth_user_link", args=(first.pk,))).status_code == 403


def test_switching_off_logs_out_at_once(administrator) -> None:
    anna = user_make("viewer", username="anna")
    client = logged_in()
    administrator.post(
        reverse("admin:auth_user_changelist"), {"action": "switch_off", "_selected_action": [str(anna.pk)]}
    )
    assert client.get("/studies/").status_code == 302
    assert WebSession.objects.filter(user=anna).count() == 0
    anna.refresh_from_db()
    assert not anna.is_active


@pytest.mark.parametrize("change", [{"is_active": ""}, {"groups": []}, {"groups": "viewer"}])
def test_last_administrator_stays(client_as, first, change: dict) -> None:
    User.objects.filter(pk=first.pk).update(is_active=False)
    last = user_make("administrator", username="last")
    client = Client()
    client.force_login(last)
    values = {"username": "last", "is_active": "on", "groups": groups("administrator")}
    if change.get("groups") == "viewer":
        change = {"groups": groups("viewer")}
    html = client.post(account_page(last), values | change).content.decode()
    assert "This is the last administrator" in html
    client.post(reverse("admin:auth_user_changelist"), {"action": "switch_off", "_selected_action": [str(last.pk)]})
    last.refresh_from_db()
    assert last.is_active
    assert last.groups.filter(name="administrator").exists()
    user_make("administrator")
    assert client.post(account_page(last), values | change).status_code == 302


def test_nobody_sets_somebody_elses_password(administrator) -> None:
    anna = user_make("viewer", username="anna")
    answer = administrator.post(
        f"/admin/auth/user/{anna.pk}/password/", {"usable_password": "true", "password1": NEW, "password2": NEW}
    )
    assert answer.status_code == 403
    assert administrator.get("/admin/password_change/")["Location"] == "/account/"
    logged_in()


def test_sessions_are_listed_and_ended_in_the_admin_without_their_keys(administrator) -> None:
    user_make("viewer", username="anna")
    client = logged_in()
    html = administrator.get("/admin/core/websession/").content.decode()
    assert "anna" in html
    assert client.session.session_key not in html
    rows = [str(pk) for pk in WebSession.objects.values_list("pk", flat=True)]
    administrator.post("/admin/core/websession/", {"action": "end", "_selected_action": rows})
    assert client.get("/studies/").status_code == 302
    assert administrator.get("/admin/").status_code == 200


def test_a_locked_address_is_forgotten_in_the_admin(administrator) -> None:
    user_make("viewer", username="anna")
    for _ in range(6):
        Client().post("/login/", {"username": "anna", "password": "wrong"})
    row = LoginCount.objects.get()
    administrator.post("/admin/core/logincount/", {"action": "forget", "_selected_action": [row.pk]})
    logged_in()


# -- the commands ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_usercreate_prints_a_link_that_makes_the_account_usable() -> None:
    told = command("usercreate", "neu", "--role", "viewer")
    link = re.search(r"http://127\.0\.0\.1:11113(/account/link/\S+)", told)
    assert link is not None
    choose(Client(), link[1])
    assert logged_in("neu", NEW).get("/studies/").status_code == 200
    for name in ("neu", "NEU", "with space", ""):
        with pytest.raises(CommandError):
            command("usercreate", name, "--role", "viewer")


def test_userlink_helps_the_only_administrator_who_forgot_and_is_locked_out(first) -> None:
    for _ in range(6):
        Client().post("/login/", {"username": "first", "password": "wrong"})
    link = re.search(r"http://127\.0\.0\.1:11113(/account/link/\S+)", command("userlink", "first"))
    assert link is not None
    choose(Client(), link[1])
    logged_in("first", NEW)
    with pytest.raises(CommandError, match="no account"):
        command("userlink", "nobody")
    User.objects.filter(pk=first.pk).update(is_active=False)
    with pytest.raises(CommandError, match="switched off"):
        command("userlink", "first")


# -- whose address, which browser --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5:51324", "203.0.113.5"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, <script>", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4," * 1000, "10.0.0.1"),
        ("::ffff:10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("192.0.2.9", "203.0.113.5", "192.0.2.9"),
        ("", "203.0.113.5", ""),
    ],
)
def test_whose_address_counts(peer: str, forwarded: str, client: str) -> None:
    assert client_address(peer, forwarded, (ip_network("10.0.0.0/24"),)) == client


def test_browsers_are_named_in_words_of_ours() -> None:
    assert browser_words(FIREFOX) == "Firefox on Linux"
    assert browser_words("<script>alert(1)</script>") == "Another program"
    assert browser_words("curl/8") == "Another program"
