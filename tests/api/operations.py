"""Every operation of the API, with what is needed to ask it; a new one must be added to EXPECTED."""

from dataclasses import dataclass
from typing import Any

from gateway_project.core.models import Alert, Lane
from gateway_project.wiring.api.contract import ApiView
from gateway_project.wiring.api.urls import urlpatterns
from network.models import RemoteAE
from studies.models import QuarantinedObject, Study
from tests.web.factories import attempt_make, number, revision_make, series_make, study_make, upload_make, vault_make
from uploads.models import Vault

SEEING = ("viewer", "operator", "administrator")
ACTING = ("operator", "administrator")
# method and path: the roles that may, in words of docs/api.md
EXPECTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("get", "schema/"): (*SEEING, "integration"),
    ("get", "status"): (*SEEING, "integration"),
    ("get", "system/diagnostics"): ACTING,
    ("get", "studies"): (*SEEING, "integration"),
    ("post", "studies/search"): (*SEEING, "integration"),
    ("get", "studies/{uid}"): (*SEEING, "integration"),
    ("get", "studies/{uid}/instances"): (*SEEING, "integration"),
    ("get", "studies/{uid}/attempts"): (*SEEING, "integration"),
    ("post", "studies/{uid}/retry"): (*ACTING, "integration"),
    ("post", "studies/{uid}/settle"): (*ACTING, "integration"),
    ("post", "studies/{uid}/custody"): ACTING,
    ("get", "uploads"): (*SEEING, "integration"),
    ("get", "connections"): (*SEEING, "integration"),
    ("get", "peers"): SEEING,
    ("post", "peers/create"): ("administrator",),
    ("post", "peers/test"): ("administrator",),
    ("get", "peers/{peer}"): SEEING,
    ("get", "peers/{peer}/commitments"): SEEING,
    ("post", "peers/{peer}/change"): ("administrator",),
    ("post", "peers/{peer}/delete"): ("administrator",),
    ("post", "peers/{peer}/echo"): ACTING,
    ("get", "pool"): SEEING,
    ("get", "vaults"): SEEING,
    ("get", "lanes"): SEEING,
    ("get", "lanes/{lane}"): SEEING,
    ("post", "lanes/{lane}/pause"): ACTING,
    ("post", "lanes/{lane}/resume"): ACTING,
    ("get", "alerts"): SEEING,
    ("post", "alerts/{alert}/acknowledge"): ACTING,
    ("get", "quarantine"): SEEING,
    ("get", "quarantine/{object}"): SEEING,
    ("post", "quarantine/{object}/accept"): ACTING,
    ("post", "quarantine/{object}/discard"): ACTING,
}
# what those are sent that do not take an empty body
BODIES: dict[str, dict[str, Any]] = {
    "peers/create": {"aeTitle": "NEW"},
    "peers/test": {"aeTitle": "NEW", "host": "169.254.1.1"},
    "peers/{peer}/change": {"version": 1, "note": "Reading room"},
}
IDS = [f"{method} {path}" for method, path in EXPECTED]


@dataclass(frozen=True)
class World:
    """One row of everything."""

    study: Study
    vault: Vault
    lane: Lane
    alert: Alert
    object: QuarantinedObject
    peer: RemoteAE

    def address(self, path: str) -> str:
        filled = path.format(
            uid=self.study.study_instance_uid, lane=self.lane.pk, alert=self.alert.pk, object=self.object.pk,
            peer=self.peer.pk,
        )  # fmt: skip
        return f"/api/{filled}"


def quarantined_make(**values: Any) -> QuarantinedObject:
    defaults = {
        "sha256": f"{number():064x}",
        "size_bytes": 4096,
        "code": "dataset-truncated",
        "reason": "An element says that it is longer than what follows.",
        "source_ae_title": "CT_NORD_1",
        "peer_address": "10.0.0.7",
        "kept": False,
    }
    return QuarantinedObject.objects.create(**defaults | values)


def alert_make(**values: Any) -> Alert:
    defaults = {"key": f"thing:{number()}", "code": "disk-low", "words": "The store's disk runs low."}
    return Alert.objects.create(**defaults | values)


def world_make() -> World:
    vault = vault_make(f"vault-{number()}")
    study = study_make(state="failed_permanent")
    series_make(study)
    job = upload_make(revision_make(study), vault, "parked", error_code="object-damaged", error_words="Damaged.")
    attempt_make(job, "failed", error_code="object-damaged", error_words="Damaged.")
    remote = RemoteAE.objects.create(ae_title=f"PEER_{number()}")
    return World(study, vault, vault.lane, alert_make(), quarantined_make(), remote)


def operations_declared() -> set[tuple[str, str]]:
    """What the addresses answer to, in the words of EXPECTED; /health, which judges for itself, and pages left out."""
    found = set()
    for pattern in urlpatterns:
        view = getattr(pattern.callback, "view_class", None)
        if view is None or not issubclass(view, ApiView):
            continue
        route = str(pattern.pattern).replace("<dicomuid:uid>", "{uid}")
        route = route.replace("<number:pk>", "{object}" if "quarantine" in route else "{" + route[:-1].split("s/")[0])
        route = (
            route.replace("{lane", "{lane}").replace("{alert", "{alert}").replace("{peer", "{peer}").replace("}}", "}")
        )
        found |= {(method, route) for method in ("get", "post") if hasattr(view, method)}
    return found
