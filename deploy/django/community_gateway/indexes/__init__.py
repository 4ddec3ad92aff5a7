"""Optional: partial indexes for flagged and pinned messages. Add "community_gateway.indexes" to INSTALLED_APPS."""
