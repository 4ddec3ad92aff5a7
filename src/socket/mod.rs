//! One WebSocket. Knows no chat.
