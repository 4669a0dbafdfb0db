"""Sessions in the database, each with its user: so a person sees their own, and ends them."""

from datetime import UTC, datetime
from typing import Any, cast

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore

from gateway_project.core.models import WebSession

# What the middleware notes in a session that someone logged in with.
ADDRESS, BROWSER, BEGUN, SLID = "address", "browser", "begun_at", "slid_at"


class SessionStore(DatabaseStore):
    """Django's own, on our table. Costs no query more, but for one where a session is made."""

    _loaded: tuple[str, int] | None = None

    @classmethod
    def get_model_class(cls) -> type[WebSession]:
        return WebSession

    def _get_session_from_db(self) -> WebSession | None:
        row: WebSession | None = super()._get_session_from_db()  # type: ignore[misc]
        self._loaded = (row.session_key, row.pk) if row else None
        return row

    def create_model_instance(self, data: dict[str, Any]) -> WebSession:
        row = cast("WebSession", super().create_model_instance(data))
        row.pk = self._pk_of(row.session_key)
        row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        row.address, row.browser = str(data.get(ADDRESS, ""))[:45], str(data.get(BROWSER, ""))[:60]
        row.begun_at, row.seen_at = _moment(data.get(BEGUN)), _moment(data.get(SLID))
        return row

    def _pk_of(self, key: str) -> int | None:
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1]
        return WebSession.objects.filter(session_key=key).values_list("pk", flat=True).first()


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
