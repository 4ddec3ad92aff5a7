from django.contrib import admin

from .models import Circle, CircleMembership

admin.site.register([Circle, CircleMembership])
