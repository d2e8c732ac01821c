"""The main bot: what people ask of it, in rooms and in direct chats, and its answers."""
