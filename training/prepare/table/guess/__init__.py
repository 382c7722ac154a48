"""A first task file from the columns of a table, for the user to edit."""
