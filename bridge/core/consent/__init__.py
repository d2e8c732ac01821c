"""Who has a say: who runs a chat, who reads in it, policy lists, who wants to be erased."""
