"""What may be wrong with a mail, found before its readers do."""
