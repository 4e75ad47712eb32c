"""Getting words to mailboxes; knows no subscriber and no post."""
