//! From a request to a WebSocket, or to an answer that says why not.

use community_gateway::domain::RoomId;
use community_gateway::http::SocketPath;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout;

use crate::http_raw::{ACCEPT, Door, ROOM, read_exact, settings, upgrade};
use crate::support::GUARD;

#[tokio::test]
async fn a_handshake_is_answered_and_handed_over() {
    let mut door = Door::open(settings());
    let (_client, answer) = door.ask(&upgrade(ROOM, "")).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("upgrade"));

    let arrival = door.arrivals.recv().await.unwrap();
    assert_eq!(arrival.address.to_string(), "127.0.0.1");
    assert!(arrival.early.is_empty());
    assert!(arrival.stream.tcp().nodelay().unwrap());
    assert_eq!(door.metrics.upgrades_total.get(), 1);
}

#[tokio::test]
async fn neither_extensions_nor_subprotocols_are_agreed_to() {
    let door = Door::open(settings());
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n";
    let (_client, answer) = door.ask(&upgrade(ROOM, offers)).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn a_room_is_reached_with_and_without_the_last_slash_and_in_any_case() {
    let mut door = Door::open(settings());
    let room = SocketPath::Room(RoomId("0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap()));
    let bare = ROOM.trim_end_matches('/');
    let upper = ROOM.replace("0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E");
    for path in [ROOM, bare, &upper, upper.trim_end_matches('/'), &format!("{bare}?token=x"), &format!("{ROOM}?")] {
        let (_client, answer) = door.ask(&upgrade(path, "")).await;
        assert_eq!(answer.status(), 101, "{path}");
        assert_eq!(door.arrivals.recv().await.unwrap().path, room);
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_request_come_first_and_whole() {
    let mut door = Door::open(settings());
    for length in [1, 6, 5_000, 100_000] {
        let early: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[index as usize % 2]).collect();
        let mut client = door.connect().await;
        client.write(&[upgrade(ROOM, "").as_bytes(), &early].concat()).await;
        assert_eq!(client.answer().await.status(), 101);

        let arrival = door.arrivals.recv().await.unwrap();
        assert!(!arrival.early.is_empty(), "what was there with the head was read with it");
        let mut received = arrival.early.to_vec();
        let missing = early.len() - received.len();
        received.resize(early.len(), 0);
        let start = early.len() - missing;
        timeout(GUARD, read_exact(&arrival.stream, &mut received[start..])).await.expect("the rest");
        assert!(received == early, "{length} bytes are the same, in their order");
    }
}

#[tokio::test]
async fn the_credentials_of_a_handshake_arrive() {
    let mut door = Door::open(settings());
    let path = format!("{ROOM}?connection_token=a%2Bb&token=query.jwt");
    let (_client, answer) = door.ask(&upgrade(&path, "Cookie: theme=dark; access_token=cookie.jwt\r\n")).await;
    assert_eq!(answer.status(), 101);
    let arrival = door.arrivals.recv().await.unwrap();
    assert_eq!(arrival.credentials.connection_token.as_deref(), Some("a+b"));
    assert_eq!(arrival.credentials.cookie_jwt.as_deref(), Some("cookie.jwt"));
    assert_eq!(arrival.credentials.query_jwt.as_deref(), Some("query.jwt"));
    let printed = format!("{arrival:?}");
    assert!(
        ["a+b", "cookie.jwt", "query.jwt", "127.0.0.1"].iter().all(|secret| !printed.contains(secret)),
        "{printed}"
    );
}

#[tokio::test]
async fn what_is_no_handshake_is_told_why() {
    let mut door = Door::open(settings());
    let room = upgrade(ROOM, "");
    for (request, status, code) in [
        (upgrade("/", ""), 404, "not_found"),
        (upgrade("/ws/community/presences/", ""), 404, "not_found"),
        (upgrade(&ROOM.replace("room", "thread"), ""), 404, "not_found"),
        (upgrade("/ws/community/room/general/", ""), 404, "not_found"),
        ("POST /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404, "not_found"),
        (room.replace("GET ", "POST "), 405, "method_not_allowed"),
        (room.replace("GET ", "HEAD "), 405, ""),
        (format!("OPTIONS {ROOM} HTTP/1.1\r\nHost: x\r\n\r\n"), 405, "method_not_allowed"),
        (format!("GET {ROOM} HTTP/1.1\r\nHost: x\r\n\r\n"), 426, "upgrade_required"),
        (room.replace("Connection: Upgrade\r\n", ""), 426, "upgrade_required"),
        (room.replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"), 426, "upgrade_required"),
        (room.replace("Version: 13", "Version: 8"), 426, "websocket_version_unsupported"),
        (room.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, "websocket_version_unsupported"),
        (room.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400, "malformed_handshake"),
        (room.replace("Sec-WebSocket-Key: dGhl", "Sec-WebSocket-Key: "), 400, "malformed_handshake"),
        (upgrade(ROOM, "Content-Length: 5\r\n") + "frame", 400, "malformed_handshake"),
    ] {
        let answer = door.refusal(&request).await;
        assert_eq!(answer.status(), status, "{request}");
        if code.is_empty() {
            assert_eq!(answer.body, "", "an answer to HEAD has no body");
        } else {
            assert_eq!(answer.code(), code, "{request}");
        }
        assert_eq!(answer.header("server"), None);
        assert!(answer.header("connection").is_some_and(|value| value.ends_with("close")), "{answer:?}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET"));
        assert_eq!(answer.header("upgrade"), (status == 426).then_some("websocket"));
        assert_eq!(answer.header("sec-websocket-version"), (status == 426).then_some("13"));
    }
    assert_eq!(door.refused("not_found"), 5);
    assert_eq!(door.refused("method_not_allowed"), 3);
    assert_eq!(door.metrics.upgrades_total.get(), 0);
    assert_eq!(door.arrivals.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[tokio::test]
async fn http_1_0_does_not_upgrade() {
    let door = Door::open(settings());
    let mut client = door.connect().await;
    client.write(upgrade(ROOM, "").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await;
    let answer = client.rest().await;
    assert!(answer.contains(" 426 ") && answer.contains("upgrade_required"), "{answer}");
}

#[tokio::test]
async fn a_page_connects_only_from_a_listed_origin() {
    let mut door = Door::open(settings());
    for origin in ["", "Origin: https://chat.example\r\n"] {
        let (client, arrival) = door.arrival(origin).await;
        drop((client, arrival));
    }
    let foreign = [
        "Origin: null\r\n",
        "Origin: \r\n",
        "Origin: http://chat.example\r\n",
        "Origin: https://chat.example:444\r\n",
        "Origin: https://CHAT.example\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: https://chat.example\r\nOrigin: https://chat.example\r\n",
    ];
    for origin in foreign {
        let answer = door.refusal(&upgrade(&format!("{ROOM}?connection_token=secret"), origin)).await;
        assert_eq!((answer.status(), answer.code().as_str()), (403, "origin_not_allowed"), "{origin}");
    }
    assert_eq!(door.refused("origin_not_allowed"), foreign.len() as u64);
    assert_eq!(door.arrivals.try_recv().unwrap_err(), TryRecvError::Empty, "no credential was touched");
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let door = Door::open(settings());
    let mut client = door.connect().await;
    client.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 400);
    client.rest().await;
    assert_eq!(door.refused("malformed_request"), 1);
}
