"""A small site, with what the stories need: accounts with sessions in the database, wishes, an unread badge."""
