"""The community over HTTP, one subject a file."""
