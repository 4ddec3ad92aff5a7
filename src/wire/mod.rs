//! The protocol, pure: commands in, events out, refusals and close codes.
