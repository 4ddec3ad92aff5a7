"""The reference project's migrations make the tables that the gateway was written for."""

import json
import re
from collections import Counter

import pytest
from conftest import ROOT
from django.db import connection

TABLES = json.loads((ROOT / "tests" / "schema" / "tables.json").read_text())["tables"]
# Of the user table only these columns concern a gateway or a login; the rest of the 74 are the app's own (points, profile,
# settings), and what rests on them (indexes, keys, checks) with them. The reference's README says so.
USER_COLUMNS = set(
    "id password last_login is_superuser username first_name last_name is_staff is_active date_joined email role avatar_url"
    " tier last_seen_at".split()
)


# What the app's table has and the reference's has not: named, so that nothing new is left out unseen.
LEFT_OUT = set(
    "bio tagline location pronouns current_status website_url calendar_url linkedin_url twitter_url github_url youtube_url"
    " instagram_url playground_is_public total_points level current_streak_days longest_streak_days last_activity_date"
    " lifetime_quizzes_completed lifetime_projects_created lifetime_side_quests_completed lifetime_comments_posted"
    " total_achievements_unlocked last_achievement_earned_at allow_llm_training gamification_is_public is_profile_public"
    " allow_similarity_matching achievement_categories_earned battle_types_tried broke_streak_record days_active_this_month"
    " new_users_welcomed perfect_quiz_scores weekly_goals_completed weekly_points_gained allow_sms_invitations"
    " is_available_for_battles phone_number phone_verified phone_verified_at followers_count following_count"
    " profile_sections lifetime_battles_participated lifetime_battles_won is_guest guest_token avatar_focal_x avatar_focal_y"
    " onboarding_completed_at onboarding_path ai_avatars_created personality_id agent_interests personality_prompt"
    " signature_phrases sms_prompt_dismissed_at sms_prompt_shown_at".split()
)


def rows(query: str, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchall()


def kept(table: str, columns: list[str]) -> bool:
    return table != "users_user" or all(re.split(r"[ )]", column)[0] in USER_COLUMNS for column in columns)


def parts(definition: str) -> list[str]:
    return definition.strip("()").split(", ")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_what_the_app_has(table):
    wanted = TABLES[table]
    columns = {
        name: (kind, null == "YES", identity == "YES", default)
        for name, kind, null, identity, default in rows(
            """SELECT a.attname, format_type(a.atttypid, a.atttypmod), c.is_nullable, c.is_identity, c.column_default
                 FROM pg_attribute a JOIN information_schema.columns c ON c.table_schema = 'public'
                      AND c.table_name = %s AND c.column_name = a.attname
                WHERE a.attrelid = %s::regclass AND a.attnum > 0""", table, table)
    }
    assert columns == {
        column["name"]: (column["type"], column["null"], column["identity"], None)
        for column in wanted["columns"] if kept(table, [column["name"]])
    }

    constraints = rows(
        """SELECT contype, pg_get_constraintdef(oid), condeferrable, condeferred, confrelid::regclass::text
             FROM pg_constraint WHERE conrelid = %s::regclass""", table)

    def keys(kind):
        return sorted(re.search(r"\((.*?)\)", text).group(1).split(", ") for type_, text, *_ in constraints if type_ == kind)

    assert keys("p") == [wanted["primary_key"]]
    assert keys("u") == sorted(wanted["unique"])
    foreign = [(text, deferrable, deferred, target) for kind, text, deferrable, deferred, target in constraints if kind == "f"]
    assert all(deferrable and deferred and "ON DELETE" not in text for text, deferrable, deferred, _ in foreign)
    assert sorted((re.search(r"\((.*?)\)", text).group(1), target) for text, _, _, target in foreign) == sorted(
        (key["column"], key["references"]) for key in wanted["foreign_keys"] if kept(table, [key["column"]])
    )
    names = USER_COLUMNS if table == "users_user" else columns
    assert sorted(text for kind, text, *_ in constraints if kind == "c") == sorted(
        text for text in wanted["checks"] if any(name in text for name in names)
    )

    indexes = rows(
        """SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
            WHERE i.indrelid = %s::regclass AND NOT i.indisprimary
              AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype = 'u')""", table)
    assert Counter(definition[definition.index("USING btree ") + 12:] for definition, in indexes) == Counter(
        definition for definition in wanted["indexes"] if kept(table, parts(definition))
    )


def test_every_column_is_compared_or_named_as_left_out():
    for table, wanted in TABLES.items():
        compared = {column["name"] for column in wanted["columns"] if kept(table, [column["name"]])}
        rest = {column["name"] for column in wanted["columns"]} - compared
        assert rest == (LEFT_OUT if table == "users_user" else set())


def test_models_and_migrations_agree():
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_the_general_forum_is_there():
    from core.community.models import Room

    assert Room.objects.filter(slug="general", is_default=True, visibility="public").count() == 1


def test_the_optional_indexes_are_partial_and_go_again():
    """In a project of its own process, as who adds the app runs it; twice, and with an index that a cut-off run left."""
    import os
    import subprocess
    import sys

    from conftest import PACKAGE

    def migrate(*arguments):
        subprocess.run([sys.executable, "manage.py", "migrate", *arguments], cwd=PACKAGE / "reference", check=True, timeout=60,
                       env=os.environ | {"EXTRA_APPS": "community_gateway.indexes"}, capture_output=True)

    def partial():
        return dict(rows("""SELECT c.relname, pg_get_expr(i.indpred, i.indrelid) FROM pg_index i JOIN pg_class c
                             ON c.oid = i.indexrelid WHERE i.indrelid = 'community_message'::regclass
                             AND i.indpred IS NOT NULL AND i.indisvalid"""))

    wanted = {"community_message_flagged_partial": "is_flagged", "community_message_pinned_partial": "is_pinned"}
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX community_message_flagged_partial ON community_message (room_id) WHERE is_flagged")
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'community_message_flagged_partial'::regclass")
    migrate("community_gateway_indexes")
    assert partial() == wanted
    migrate("community_gateway_indexes")
    assert partial() == wanted
    migrate("community_gateway_indexes", "zero")
    assert partial() == {}
