"""What the search does next, as a pure function of its history."""
