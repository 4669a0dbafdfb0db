"""What a person enters about a peer, wherever it is entered: it is judged against the row as it was shown."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from network.models import RemoteAE

CONFLICT = "Somebody else has changed this peer since this page was opened. Nothing was saved: open it again, and look."


class RemoteAEForm(forms.ModelForm):
    """`shown_version` says which state of the row was shown: a change made meanwhile is never undone by accident."""

    shown_version = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=0, max_value=2**31 - 1)

    class Meta:
        model = RemoteAE
        fields: Any = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["shown_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        shown = cleaned.get("shown_version") if cleaned is not None else None
        if self.instance.pk is not None and shown != self.instance.version:
            raise ValidationError(CONFLICT, code="conflict")
        return cleaned

    @property
    def fields_changed(self) -> list[str]:
        """The fields of the row that differ from what was shown."""
        return [name for name in self.changed_data if name != "shown_version"]
