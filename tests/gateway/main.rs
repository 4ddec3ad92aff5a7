//! Behaviour of the gateway over real Postgres and Redis. How tests are written: `tests/support/mod.rs`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod app_notices;
mod app_presence;
mod app_stage;
mod blocks;
mod changes;
mod chaos;
mod cli_check;
mod cli_config;
mod cli_readme;
mod cli_run;
mod cli_serve;
mod cli_token;
mod client_ids;
mod closing;
mod control;
mod dm;
mod drain;
mod entering;
mod foreign;
mod frames;
mod harness;
mod history;
mod http_limits;
mod http_ops;
mod http_raw;
mod http_upgrade;
mod identity_golden;
mod identity_login;
mod leaks;
mod limits;
mod messages;
mod moderation_expiry;
mod moderation_reports;
mod order;
mod outages;
mod presence_heals;
mod presence_rooms;
mod presence_stage;
mod presence_tabs;
mod protocol_table;
mod quota_admission;
mod quota_windows;
mod rights;
mod rooms;
mod schema;
mod store_commit;
mod store_fixture;
mod store_plans;
mod store_reads;
mod store_writer;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod typing;
