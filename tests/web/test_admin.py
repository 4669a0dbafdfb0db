"""The admin: every model of ours, for administrators only, nothing to change that must not be changed."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now

from gateway_project.core.admin_site import ReadOnlyAdmin, site
from gateway_project.core.models import (
    Alert,
    AlertNotice,
    AlertNoticeItem,
    ApiToken,
    AuditEvent,
    AuditSeal,
    ConfigOverride,
    JobState,
    Lane,
    Lease,
    LoginCount,
    RollupMark,
    SharedMark,
    WebSession,
)
from gateway_project.core.packages import package_is_ours
from gateway_project.core.secrets import secret_decrypt, secret_encrypt
from gateway_project.core.services.tokens import token_create, token_verified
from network.models import AssociationRecord, CommitmentRequest, LocalAE, ProcedureStepMessage, RemoteAE
from studies.models import Arrival, QuarantinedObject, SourceActivity, SourcePolicy, Study
from tests.web.factories import (
    commitment_make,
    day_make,
    lane_make,
    number,
    series_make,
    step_make,
    study_make,
    uploaded_study_make,
    user_make,
    vault_make,
)
from uploads.models import DeliveryTimes, StowVault, UploadJob, UploadPart, Vault, VaultCheck

pytestmark = pytest.mark.django_db
PROXY = "http://anna:MARKED-secret@proxy.example.org:3128"
HIDDEN = {"configversion"}  # one counter row
EDITED = (LocalAE, RemoteAE, SourcePolicy, StowVault)  # rows that administrators make, change and remove here
MODELS = sorted(
    (m for m in apps.get_models() if package_is_ours(m.__module__) and m._meta.model_name not in HIDDEN),
    key=lambda model: model._meta.label,
)


def address(model: type, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def fill(rows: int) -> None:
    vault = vault_make(f"v{number()}", lane=lane_make())
    for _ in range(rows):
        study = uploaded_study_make(vault)
        n = number()
        job = study.revisions.get().upload_jobs.get()
        UploadPart.objects.create(job=job, name=f"file-{n}.gve", sha256="0" * 64, size_bytes=1)
        VaultCheck.objects.create(queue="verify", vault=vault_make(f"v{n}", lane=lane_make()))
        vault_make(f"s{n}", lane=lane_make(), transport="stow")
        Alert.objects.create(key=f"k{n}", code="c", words=f"words {n}")
        notice = AlertNotice.objects.create(queue="notices", way="email")
        AlertNoticeItem.objects.create(notice=notice, alert=Alert.objects.latest("pk"), kind="opened", words="words")
        event = AuditEvent.objects.create(event="Query", actor="user:x", subject=f"study:{n}")
        AuditSeal.objects.create(sequence=n, event=event, hash="0" * 64)
        ConfigOverride.objects.create(key=f"SECTION.KEY{n}", value="MARK-unknown-option", updated_by="user:x")
        SharedMark.objects.create(name=f"thing{n}", mark="MARK-shared", made_by="host-1")
        Lease.objects.create(name=f"lease{n}", holder="x", until=study.received_at)
        SourcePolicy.objects.create(calling_ae_title=f"POLICY_{n}")
        QuarantinedObject.objects.create(sha256=f"{n:064d}", size_bytes=1, code="c", reason="r")
        AssociationRecord.objects.create(association_id=f"a{n}", outcome="released", opened_at=study.received_at)
        LocalAE.objects.create(name=f"e{n}", ae_title="GATEWAY", port=n, password=secret_encrypt("MARK-secret-token"))
        remote = RemoteAE.objects.create(ae_title=f"CT{n}")
        commitment_make(remote)
        step = step_make(study)
        ProcedureStepMessage.objects.create(step=step, operation="create", transfer_syntax_uid="1.2", data=b"x")
        moment = study.received_at
        source = SourceActivity.objects.create(calling_ae_title=f"S{n}", first_at=moment, last_at=moment)
        Arrival.objects.create(minutes=60, start=moment, source=source)
        DeliveryTimes.objects.create(source_ae_title=f"S{n}")
        RollupMark.objects.create(name=f"mark{n}")
        token_create(f"t{n}", role="viewer", days=1, actor="user:x", now=study.received_at)
        LoginCount.objects.create(network=f"10.0.{n // 250}.{n % 250}", until=now())
        person = user_make("viewer", username=f"person{n}")
        WebSession.objects.create(
            session_key=f"MARK-secret-token-{n}", session_data="MARK-secret-token", user=person, expire_date=now()
        )


def test_every_model_of_ours_is_there_and_no_one_elses() -> None:
    ours = set(MODELS) | {User, Group}
    assert set(site._registry) == ours


def listed(administrator, model: type) -> tuple[int, str]:
    """The list's queries and its text."""
    with CaptureQueriesContext(connection) as captured:
        answer = administrator.get(address(model, "changelist"))
    assert answer.status_code == 200, model
    for query in captured:
        counts = "COUNT(*)" in query["sql"] and 'FROM "core_alert" WHERE "core_alert"."healed_at"' not in query["sql"]
        assert not counts or "LIMIT" in query["sql"], query["sql"]
        assert "DISTINCT" not in query["sql"] or site._registry[model].date_hierarchy, query["sql"]
    # settings are asked for anew every two seconds, whatever the list
    return sum("core_configversion" not in query["sql"] for query in captured), answer.content.decode()


def test_lists_cost_the_same_for_5_and_for_50_rows_and_count_no_table(administrator) -> None:
    fill(5)
    few = {}
    administrator.get("/admin/")  # begins the session
    for model in (*MODELS, User):
        few[model], _html = listed(administrator, model)
        assert few[model] <= 14, model
    fill(45)
    for model in (*MODELS, User):
        cost, html = listed(administrator, model)
        assert cost <= few[model], model
        assert html.count('class="action-select"') >= 45 or not site._registry[model].actions, model
        for secret in ("MARK-secret-token", "MARK-unknown-option"):
            assert secret not in html, model


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_rows_open_and_show_no_secret(administrator, model, django_assert_max_num_queries) -> None:
    fill(1)
    administrator.get("/admin/")  # begins the session
    row = site._registry[model].get_queryset(None).order_by("pk").first()
    with django_assert_max_num_queries(16):
        html = administrator.get(address(model, "change", row.pk)).content.decode()
    assert "MARK-secret-token" not in html
    assert "MARK-unknown-option" not in html


@pytest.mark.parametrize("model", [*MODELS, User], ids=lambda model: model._meta.label)
def test_lists_search_filter_and_refuse_nonsense(administrator, model) -> None:
    fill(1)
    shown = site._registry[model]
    path = address(model, "changelist")
    for query in ("x", "'; DROP TABLE", "%", "1.2.3", "<script>alert(1)</script>", "9" * 400, "\x00"):
        if shown.search_fields:
            html = administrator.get(path, {"q": query}).content.decode()
            assert "<script>alert" not in html
    assert administrator.get(path, {"p": "99999"}, follow=True).status_code == 200
    assert administrator.get(path, {"o": "-1.2.77"}).status_code == 200
    assert administrator.get(path, {"password__startswith": "a"}, follow=True).status_code in (200, 400)


def test_a_long_list_says_that_there_are_more(administrator, monkeypatch) -> None:
    monkeypatch.setattr("gateway_project.core.admin_site.BoundedPaginator.MOST", 60)
    for n in range(70):
        Alert.objects.create(key=f"k{n}", code="disk-low", words=f"words {n}")
    html = administrator.get(address(Alert, "changelist")).content.decode()
    assert "more than 60 alerts" in " ".join(html.split())


def test_related_rows_are_linked(administrator) -> None:
    study = uploaded_study_make(vault_make("north"))
    job = study.revisions.get().upload_jobs.get()
    html = administrator.get(address(Study, "change", study.pk)).content.decode()
    links = [unescape(link) for link in re.findall(r'href="(/admin/[^"]+__exact=\d+)"', html)]
    assert len(links) == 4
    for link in links:
        answer = administrator.get(link)
        assert answer.status_code == 200, link
        assert address(Study, "change", study.pk) in answer.content.decode() or "uploadjob" in link, link
    html = administrator.get(address(UploadJob, "changelist")).content.decode()
    assert address(Vault, "change", job.vault_id) in html


def test_upload_is_retried_from_its_own_list(administrator) -> None:
    day_make(vault_make("north"))
    job = UploadJob.objects.get(state=JobState.PARKED)
    administrator.post(address(UploadJob, "changelist"), {"action": "retry", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.state == JobState.READY
    assert AuditEvent.objects.filter(detail__action="retry").exists()


@pytest.mark.parametrize("model", [m for m in MODELS if m not in EDITED], ids=lambda model: model._meta.label)
def test_nothing_is_added_or_deleted_and_read_only_rows_stay(administrator, model) -> None:
    fill(1)
    row = model._default_manager.order_by("pk").first()
    assert administrator.get(address(model, "add")).status_code == 403
    assert administrator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    administrator.post(
        address(model, "changelist"), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    )
    assert model._default_manager.filter(pk=row.pk).exists()
    if isinstance(site._registry[model], ReadOnlyAdmin):
        assert administrator.post(address(model, "change", row.pk), {}).status_code == 403


@pytest.mark.parametrize("role", ["viewer", "operator", "integration", ""])
def test_other_roles_have_no_admin(client_as, role: str) -> None:
    client = client_as(role)
    for path in ("/admin/", address(Lane, "changelist"), "/admin/login/"):
        answer = client.get(path, follow=True)
        assert answer.status_code == 403


def test_is_staff_alone_is_no_key(client_as) -> None:
    client = client_as("viewer")
    User.objects.filter(username__startswith="viewer").update(is_staff=True)
    assert client.get("/admin/", follow=True).status_code == 403


def test_strangers_get_the_one_login_page(client_as) -> None:
    client_as("viewer")
    answer = Client().get("/admin/core/lane/", follow=True)
    assert answer.redirect_chain[-1][0] == "/login/?next=/admin/core/lane/"
    assert answer.templates[0].name == "registration/login.html"


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_lane_is_paused_and_resumed_and_audited(administrator, action: str) -> None:
    lane = lane_make(paused=action == "resume")
    administrator.post(address(Lane, "changelist"), {"action": action, "_selected_action": [lane.pk]})
    lane.refresh_from_db()
    assert lane.paused == (action == "pause")
    event = AuditEvent.objects.get(subject=f"lane:{lane.name}")
    assert event.detail == {"action": action}
    assert event.actor.startswith("user:administrator")


def test_token_is_revoked_from_the_list_and_its_hash_is_never_shown(administrator) -> None:
    token, text = token_create("ris", role="viewer", days=1, actor="user:x", now=now())
    for page in (address(ApiToken, "changelist"), address(ApiToken, "change", token.pk)):
        shown = administrator.get(page).content.decode()
        assert "ris" in shown
        assert token.secret_sha256 not in shown
    data = {"action": "revoke", "_selected_action": [token.pk]}
    assert administrator.post(address(ApiToken, "changelist"), data).status_code == 302
    assert token_verified(text, now=now()) is None
    assert ApiToken.objects.get().revoked_by.startswith("user:administrator-")


def test_alert_is_acknowledged(administrator) -> None:
    alert = Alert.objects.create(key="disk", code="disk-low", words="The store's disk runs low.")
    administrator.post(address(Alert, "changelist"), {"action": "acknowledge", "_selected_action": [alert.pk]})
    alert.refresh_from_db()
    assert alert.acknowledged_at is not None
    assert alert.acknowledged_by.startswith("user:administrator")


def test_vault_takes_a_switch_and_keeps_its_pins(administrator) -> None:
    vault = vault_make("north")
    forged = {
        "base_url": "http://evil.example",
        "recipient_key_id": "x",
        "token": "x",
        "recipient_jwk": "{}",
        "demonstration": "",
    }
    answer = administrator.post(
        address(Vault, "change", vault.pk), {"name": "nord", "enabled": "", "required": "on", **forged}
    )
    assert answer.status_code == 302
    after = Vault.objects.get(pk=vault.pk)
    assert (after.name, after.enabled, after.required) == ("nord", False, True)
    for kept in ("base_url", "recipient_key_id", "token", "recipient_jwk"):
        assert getattr(after, kept) == getattr(vault, kept)
    assert Lane.objects.get(pk=vault.lane_id).paused, "what is planned for it waits"
    details = [event.detail for event in AuditEvent.objects.filter(subject=f"vault:{vault.pk}")]
    assert {"action": "vault changed", "name": "nord"} in details
    assert len(details) == 2


def test_vaults_limits_and_way_are_changed_and_its_proxy_is_never_shown(administrator, settings, tmp_path) -> None:
    settings.DATA_DIR = tmp_path
    vault = vault_make("north")
    Lane.objects.filter(pk=vault.lane_id).update(waits_until=vault.created_at + timedelta(days=900))
    page = address(Vault, "change", vault.pk)
    kept = {"name": "north", "enabled": "on", "required": "on"}
    way = {"windows": "22:00-06:00", "bytes_per_second": "50000", "parallel_studies": "2", "new_proxy": PROXY}
    assert administrator.post(page, kept | way).status_code == 302
    after = Vault.objects.select_related("lane").get(pk=vault.pk)
    assert (after.windows, after.bytes_per_second, after.parallel_studies) == ("22:00-06:00", 50_000, 2)
    assert secret_decrypt(after.proxy) == PROXY
    assert after.lane.waits_until is None, "its windows are asked anew"
    shown = administrator.get(page).content.decode()
    assert "MARKED" not in shown + str(list(AuditEvent.objects.values()))
    for name, bad in (
        ("windows", "at night"),
        ("bytes_per_second", "5"),
        ("ca", "/nowhere"),
        ("new_proxy", "nonsense"),
    ):
        answer = administrator.post(page, kept | way | {name: bad})
        assert name in answer.context["adminform"].form.errors
    assert administrator.post(page, kept | {"new_proxy": "direct"}).status_code == 302
    assert Vault.objects.get(pk=vault.pk).proxy == ""


def test_demonstration_vault_keeps_its_name(administrator) -> None:
    vault = vault_make("demonstration", demonstration=True)
    administrator.post(address(Vault, "change", vault.pk), {"name": "other", "enabled": "on", "required": "on"})
    assert Vault.objects.get(pk=vault.pk).name == "demonstration"


def test_secret_override_is_only_ever_set(administrator) -> None:
    ConfigOverride.objects.create(key="INSTANCE.ID", value="haus-4", updated_by="user:x")
    ConfigOverride.objects.create(key="OLD.SECRET", value=secret_encrypt("MARK"), updated_by="user:x")
    html = administrator.get(address(ConfigOverride, "changelist")).content.decode()
    assert "haus-4" in html
    assert "MARK" not in html
    assert "gAAAA" not in html


def test_no_form_makes_a_superuser(administrator) -> None:
    user = user_make("viewer", username="neu")
    forged = {"is_superuser": "on", "is_staff": "on", "user_permissions": ["1"]}
    administrator.post(address(User, "change", user.pk), {"username": "neu", "is_active": "on", **forged})
    user.refresh_from_db()
    assert (user.is_superuser, user.is_staff, user.user_permissions.count()) == (False, False, 0)


def test_superusers_account_is_not_taken_over(administrator) -> None:
    root = User.objects.get(username="first")
    password = "taken over 12345"
    for path in (address(User, "change", root.pk), f"/admin/auth/user/{root.pk}/password/"):
        answer = administrator.post(
            path, {"username": "first", "usable_password": "true", "password1": password, "password2": password}
        )
        assert answer.status_code == 403
    root.refresh_from_db()
    assert not root.check_password(password)


def test_admins_own_log_holds_nothing_of_a_patient(administrator) -> None:
    vault = vault_make("north")
    studies = day_make(vault)
    administrator.post(address(Vault, "change", vault.pk), {"name": "nord", "required": "on"})
    told = " ".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())
    assert told
    for study in studies:
        for text in (study.patient_name, study.patient_id, study.study_instance_uid):
            assert text not in told
            assert text not in str(study)


def test_no_admin_search_takes_a_patients_name_or_number() -> None:
    """What is searched there stands in the address."""
    for model, model_admin in site._registry.items():
        for field in model_admin.get_search_fields(None):
            assert not any(word in field for word in ("patient", "accession", "physician")), model


def test_studies_are_settled_and_retried_from_the_list(administrator, vault) -> None:
    study = study_make(open_since=now())
    series_make(study)
    chosen = {"_selected_action": [study.pk]}
    administrator.post(address(Study, "changelist"), {"action": "settle_now", **chosen})
    job = study.revisions.get().upload_jobs.get()
    UploadJob.objects.filter(pk=job.pk).update(state=JobState.PARKED, error_code="x", error_words="Given up.")
    administrator.post(address(Study, "changelist"), {"action": "retry", **chosen})
    job.refresh_from_db()
    assert job.state == JobState.READY
    assert AuditEvent.objects.filter(subject=f"study:{study.pk}", actor__startswith="user:administrator").count() == 2


def test_commitment_is_reported_again_and_audited(administrator) -> None:
    row = commitment_make(RemoteAE.objects.create(ae_title="CT1"), state=JobState.PARKED, attempts=20)
    running = commitment_make(row.remote, state=JobState.RUNNING)
    chosen = {"action": "report_again", "_selected_action": [row.pk, running.pk]}
    administrator.post(address(CommitmentRequest, "changelist"), chosen)
    row.refresh_from_db()
    running.refresh_from_db()
    assert (row.state, row.attempts, running.state) == ("ready", 0, "running")
    event = AuditEvent.objects.get(subject=f"commitment:{row.pk}")
    assert event.detail["action"] == "report again"
    assert event.actor.startswith("user:administrator")
