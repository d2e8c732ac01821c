"""Real servers, and scripted ones, that the tests run against."""
