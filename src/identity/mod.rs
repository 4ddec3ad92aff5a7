//! Who is it: credentials, connection tokens, JWTs.
