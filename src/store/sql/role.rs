//! A member's role as it is in force now: a mute or a ban that was given for a time ends by itself.

/// An expression for the role of a user in a room, all three named as the statement calls them.
///
/// Who is muted or banned is so as long as an active action of that kind has not expired, in this room or everywhere.
/// Where no such action ever had an end, nobody gave one: the role then stands by itself, for ever.
pub(super) fn in_force(role: &str, user: &str, room: &str) -> String {
    let action = format!(
        "SELECT FROM community_moderationaction e
          WHERE e.target_user_id = {user} AND e.action_type = CASE {role} WHEN 'muted' THEN 'mute' ELSE 'ban' END
            AND (e.target_room_id = {room} OR e.target_room_id IS NULL)"
    );
    format!(
        "CASE WHEN {role} IN ('muted', 'banned') AND EXISTS ({action} AND e.expires_at IS NOT NULL)
               AND NOT EXISTS ({action} AND e.is_active AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp()))
              THEN 'member' ELSE {role} END"
    )
}
