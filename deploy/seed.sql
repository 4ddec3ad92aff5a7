-- People and rooms to try the gateway with. Loaded by deploy/devstack after schema.sql.

INSERT INTO users_user (id, is_superuser, username, first_name, last_name, is_staff, is_active, date_joined, email, role,
                        avatar_url, tier, last_seen_at)
VALUES (1, false, 'ada',      'Ada',      '',false, true, now(), 'ada@example.org',      'explorer', NULL, 'seedling', NULL),
       (2, false, 'grace',    'Grace',    '',false, true, now(), 'grace@example.org',    'explorer', NULL, 'seedling', NULL),
       (3, false, 'linus',    'Linus',    '',false, true, now(), 'linus@example.org',    'explorer', NULL, 'seedling', NULL),
       (4, false, 'margaret', 'Margaret', '',true,  true, now(), 'margaret@example.org', 'admin',    NULL, 'seedling', NULL),
       (5, false, 'ken',      'Ken',      '',false, true, now(), 'ken@example.org',      'explorer', NULL, 'seedling', NULL),
       (6, false, 'barbara',  'Barbara',  '',false, true, now(), 'barbara@example.org',  'agent',    NULL, 'team',     NULL);
SELECT setval(pg_get_serial_sequence('users_user', 'id'), 6);

INSERT INTO community_room (id, name, slug, description, room_type, visibility, auto_thread, position, is_default,
                            slow_mode_seconds, min_trust_to_join, min_trust_to_post, member_count, message_count, online_count,
                            last_message_at, is_archived, is_active, created_at, updated_at, circle_id, creator_id, icon)
VALUES ('10000000-0000-4000-8000-000000000001', 'The Lounge', 'the-lounge', 'The general forum: say hello.', 'forum', 'public',
        false, 0, true, 0, 0, 0, 6, 0, 0, NULL, false, true, now(), now(), NULL, 4, 'coffee'),
       ('10000000-0000-4000-8000-000000000002', 'The Engine Room', 'the-engine-room', 'Private, for Ada and Grace.', 'forum', 'private',
        false, 1, false, 0, 0, 0, 2, 0, 0, NULL, false, true, now(), now(), NULL, 1, 'lock');

INSERT INTO community_roommembership (id, role, trust_score, messages_sent, warnings_count, notifications_enabled,
                                      notification_level, is_active, last_read_at, joined_at, updated_at, room_id, user_id)
SELECT format('20000000-0000-4000-8%s-00000000000%s', lpad(room::text, 3, '0'), person)::uuid, role, 0, 0, 0, true, 'all', true,
       NULL, now(), now(), format('10000000-0000-4000-8000-00000000000%s', room)::uuid, person
FROM (VALUES (1, 1, 'member'), (1, 2, 'member'), (1, 3, 'member'), (1, 4, 'owner'), (1, 5, 'member'), (1, 6, 'member'),
             (2, 1, 'owner'), (2, 2, 'member')) AS members (room, person, role);
