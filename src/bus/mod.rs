//! Between instances, and from Django.
