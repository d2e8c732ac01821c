"""What is said to one of us alone: direct chats, opt-outs, those who run channels."""
