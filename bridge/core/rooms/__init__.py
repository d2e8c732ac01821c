"""What a chat is, as its room shows it: who is there, its topic, ranks, who may come in."""
