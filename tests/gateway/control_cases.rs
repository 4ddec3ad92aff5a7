//! The orders that Django gives and the rights that it may change: what is written, what is ordered, what comes of it.

/// Where it happens.
#[derive(Clone, Copy)]
pub enum Place {
    /// A public room; Ada is a member, Grace is not.
    Public,
    /// A private room; both are members.
    Private,
    /// A circle's room; both are in the circle.
    Circle,
    /// A conversation of the two.
    Direct,
}

/// What becomes of Ada's tabs, one on each instance. Grace's stay as they are.
#[derive(Clone, Copy)]
pub enum Effect {
    /// They close. `comes_back` says whether their tickets are good all the same.
    Closed { code: u16, comes_back: bool },
    /// What she sends is refused.
    Refused(&'static str),
    /// What she was not allowed is done.
    Allowed,
    /// She, and Grace, are told.
    Told(&'static str),
}

/// A case: what Django writes, what it orders, what comes of it, and whether that comes of itself when the order is lost.
pub struct Case {
    pub name: &'static str,
    pub place: Place,
    pub sql: &'static str,
    pub order: &'static str,
    pub effect: Effect,
    pub made_up: bool,
}

const fn case(name: &'static str, place: Place, sql: &'static str, order: &'static str, effect: Effect) -> Case {
    Case { name, place, sql, order, effect, made_up: true }
}

const OF_ADA: &str = r#"{"action":"refresh","room":"{room}","user":"{ada}"}"#;
const OF_ROOM: &str = r#"{"action":"room_changed","room":"{room}"}"#;
const ROLE: &str = "UPDATE community_roommembership SET role = '{role}' WHERE room_id = '{room}' AND user_id = {ada}";
const OUT: Effect = Effect::Closed { code: 4003, comes_back: false };
const ENDED: Effect = Effect::Closed { code: 4001, comes_back: false };

/// The orders and rights. `{…}` stands for the ids of the case.
pub fn cases() -> Vec<Case> {
    use Effect::{Allowed, Closed, Refused, Told};
    use Place::{Circle, Direct, Private, Public};
    let role = |role| -> &'static str { ROLE.replace("{role}", role).leak() };
    vec![
        Case {
            made_up: false, // nothing of it is written anywhere
            ..case("disconnect", Public, "", r#"{"action":"disconnect","user":"{ada}"}"#, ENDED)
        },
        case("logout", Public, "version", r#"{"action":"logout","user":"{ada}","session_version":2}"#, ENDED),
        Case {
            made_up: false, // as above
            ..case(
                "kick",
                Public,
                "",
                r#"{"action":"kick","room":"{room}","user":"{ada}"}"#,
                Closed { code: 4003, comes_back: true },
            )
        },
        case("ban", Public, role("banned"), OF_ADA, OUT),
        case("ban, told of the user", Public, role("banned"), r#"{"action":"refresh","user":"{ada}"}"#, OUT),
        case("ban, told of all", Public, role("banned"), r#"{"action":"refresh"}"#, OUT),
        case("mute", Public, role("muted"), OF_ADA, Refused("cannot_send")),
        case("role given", Public, role("moderator"), OF_ADA, Allowed),
        case(
            "deactivated",
            Public,
            "UPDATE users_user SET is_active = false WHERE id = {ada}",
            r#"{"action":"refresh","user":"{ada}"}"#,
            ENDED,
        ),
        case(
            "membership ended",
            Private,
            "UPDATE community_roommembership SET is_active = false WHERE room_id = '{room}' AND user_id = {ada}",
            OF_ADA,
            OUT,
        ),
        case(
            "membership gone",
            Private,
            "DELETE FROM community_roommembership WHERE room_id = '{room}' AND user_id = {ada}",
            OF_ADA,
            OUT,
        ),
        case(
            "left the circle",
            Circle,
            "UPDATE thrive_circle_circlemembership SET is_active = false WHERE circle_id = '{room}' AND user_id = {ada}",
            OF_ADA,
            OUT,
        ),
        case(
            "archived",
            Public,
            "UPDATE community_room SET is_archived = true WHERE id = '{room}'",
            OF_ROOM,
            Refused("room_archived"),
        ),
        case(
            "slow mode",
            Public,
            "UPDATE community_room SET slow_mode_seconds = 600 WHERE id = '{room}'",
            OF_ROOM,
            Refused("slow_mode"),
        ),
        case(
            "trust to post",
            Public,
            "UPDATE community_room SET min_trust_to_post = 4 WHERE id = '{room}'",
            OF_ROOM,
            Refused("trust_too_low"),
        ),
        Case {
            made_up: false, // what it changes is in force; how it looks is seen with the next state
            ..case(
                "renamed",
                Public,
                "UPDATE community_room SET name = 'Other' WHERE id = '{room}'",
                OF_ROOM,
                Told("room_updated"),
            )
        },
        case(
            "made private",
            Public,
            "UPDATE community_roommembership SET user_id = {grace} WHERE room_id = '{room}'; \
             UPDATE community_room SET visibility = 'private' WHERE id = '{room}'",
            OF_ROOM,
            OUT,
        ),
        case(
            "block",
            Direct,
            "INSERT INTO community_userblock (id, created_at, blocker_id, blocked_id) \
             VALUES (gen_random_uuid(), now(), {grace}, {ada})",
            r#"{"action":"block_changed","users":["{ada}","{grace}"]}"#,
            Refused("blocked"),
        ),
        case(
            "out of the conversation",
            Direct,
            "DELETE FROM community_directmessagethread_participants WHERE user_id = {ada}",
            r#"{"action":"refresh","thread":"{thread}"}"#,
            OUT,
        ),
        Case {
            made_up: false, // the row says so to whoever reads it next
            ..case(
                "decided",
                Public,
                "UPDATE community_message SET is_hidden = true WHERE id = '{message}'",
                r#"{"action":"moderation","message":"{message}","decision":"hidden"}"#,
                Told("message_deleted"),
            )
        },
        case("lists", Public, "lists", r#"{"action":"reload"}"#, Refused("blocked by the lists")),
    ]
}
