"""Admin of accounts: made with a role and without a password, changed, switched off; never deleted."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from gateway_project.core.admin_site import BoundedPaginator, site
from gateway_project.core.roles import ADMINISTRATOR, ROLES, actor_of, can_administer
from gateway_project.wiring.people import (
    ROLE_WORDS,
    AccountError,
    account_audit,
    administrator_must_stay,
    password_link,
    sessions_end,
)


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """Only the fields named here can be set: nobody makes a superuser here, or removes the last administrator."""

    groups = forms.ModelMultipleChoiceField(
        queryset=Group.objects.filter(name__in=ROLES).order_by("name"),
        required=False,
        label="Roles",
        help_text=" ".join(f"{role.capitalize()} {words}." for role, words in ROLE_WORDS.items()),
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "is_active", "groups")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        user = self.instance
        if user.pk is None or "groups" not in cleaned:
            return cleaned
        administers = user.is_superuser or any(group.name == ADMINISTRATOR for group in cleaned["groups"])
        stays = administers and cleaned.get("is_active", True)
        if not stays and administrator_must_stay(User.objects.get(pk=user.pk)):
            raise forms.ValidationError(
                "This is the last administrator. Give another account that role first.", code="last-administrator"
            )
        return cleaned


class NewAccountForm(AccountForm):
    class Meta(AccountForm.Meta):
        fields = ("username", "first_name", "last_name", "email", "groups")  # type: ignore[assignment]


@admin.register(User, site=site)
class AccountAdmin(UserAdmin):
    """A password is chosen by its owner alone, with a one-time link that an administrator makes and hands over."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_display = ("username", "first_name", "last_name", "roles", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    search_fields = ("username", "first_name", "last_name", "email")
    form = AccountForm
    add_form = NewAccountForm
    fieldsets = (
        (None, {"fields": ("username", "password_state")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Roles", {"fields": ("is_active", "groups")}),
        ("Last seen", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "fields": ("username", "first_name", "last_name", "email", "groups"),
                "description": "Once it is saved, make the one-time link with which its owner chooses a password.",
            },
        ),
    )
    readonly_fields = ("last_login", "date_joined", "password_state")
    filter_horizontal = ()
    actions = ("switch_off",)
    change_form_template = "admin/auth/user/change_form.html"
    add_form_template = "admin/change_form.html"

    @admin.display(description="roles")
    def roles(self, user: User) -> str:
        return (
            "all" if user.is_superuser else ", ".join(group.name for group in user.groups.all() if group.name in ROLES)
        )

    @admin.display(description="password")
    def password_state(self, user: User) -> str:
        return "set" if user.has_usable_password() else "not set yet"

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def has_view_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return can_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return can_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """A superuser's account is changed by a superuser alone: an administrator must not take it over."""
        return can_administer(request.user) and (obj is None or not obj.is_superuser or request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Accounts are switched off, never deleted: the audit trail names them."""
        return False

    def get_urls(self) -> list[URLPattern]:
        link = path("<int:pk>/link/", self.admin_site.admin_view(self.link_view), name="auth_user_link")
        return [link, *super().get_urls()]

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Nobody sets somebody else's password."""
        raise PermissionDenied

    @method_decorator([never_cache, require_POST])
    def link_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Shows a new one-time link, once."""
        user = get_object_or_404(User, pk=pk)
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        try:
            address = request.build_absolute_uri(password_link(user, actor=actor_of(request.user)))
        except AccountError as error:
            self.message_user(request, str(error), messages.ERROR)
            return self.response_post_save_change(request, user)
        context = {
            **self.admin_site.each_context(request),
            "account": user,
            "address": address,
            "title": "One-time link",
        }
        return TemplateResponse(request, "admin/auth/user/link.html", context)

    @admin.action(description="Switch off: logged out at once, and not let in again", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset.order_by("pk"):
            if not self.has_change_permission(request, user) or administrator_must_stay(user):
                self.message_user(request, f"{user}: not switched off; the last administrator stays.", messages.ERROR)
                continue
            user.is_active = False
            user.save(update_fields=["is_active"])
            sessions_end(user, but=request.session.session_key)
            account_audit(user, actor=actor_of(request.user), action="account changed", changed=["is_active"])
            self.message_user(request, f"{user} is switched off.", messages.SUCCESS)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if change and not obj.is_active:
            sessions_end(obj, but=request.session.session_key)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        action = "account changed" if change else "account made"
        account_audit(form.instance, actor=actor_of(request.user), action=action, changed=form.changed_data)
