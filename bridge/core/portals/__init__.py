"""All portals: how rooms and chats are tied and untied, found, moved and chosen for."""
