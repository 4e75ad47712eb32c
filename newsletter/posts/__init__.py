"""Things to read: feeds, posts, authors."""
