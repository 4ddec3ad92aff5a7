//! One connected person on one topic: the table of contents of the product.
