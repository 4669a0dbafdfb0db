"""The chain of custody of a study as the signed document."""

from django.http import StreamingHttpResponse
from django.utils.timezone import now
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request

from gateway_project.core.roles import actor_of
from gateway_project.wiring.api.access import ACTING
from gateway_project.wiring.api.contract import UID, ApiView, operation
from gateway_project.wiring.api.fields import Nothing
from gateway_project.wiring.api.studies import study_of
from uploads.services.custody import custody_document


class CustodyView(ApiView):
    @operation(
        "Export the chain of custody",
        tag="Custody",
        roles=ACTING,
        path=[UID],
        body=Nothing,
        answer=OpenApiTypes.OBJECT,
    )
    def post(self, request: Request, uid: str) -> StreamingHttpResponse:
        """Signed by the gateway's identity (docs/custody.md); names no patient. Each export is in the audit trail."""
        study = study_of(uid)
        document = custody_document(study, actor=actor_of(request.user))
        name = f"custody-study-{study.pk}-{now():%Y%m%dT%H%M%SZ}.json"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(document, content_type="application/json", headers=headers)
