//! Who is here, on this instance.
