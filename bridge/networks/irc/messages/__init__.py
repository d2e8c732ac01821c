"""What is said in channels: lines heard become events, messages become lines."""
