"""``trestle prove``: a conversation with kills in it, four ledgers of it, and what they say."""
