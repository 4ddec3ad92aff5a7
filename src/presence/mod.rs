//! Who is online, across instances.
