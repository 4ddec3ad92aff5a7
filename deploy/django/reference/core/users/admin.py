from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from .models import User, UserFollow


@admin.register(User)
class AccountAdmin(UserAdmin):
    list_display = ("username", "email", "tier", "is_staff", "is_active")
    fieldsets = (*UserAdmin.fieldsets, ("Community", {"fields": ("role", "tier", "avatar_url", "last_seen_at")}))


admin.site.register(UserFollow)
