"""What a user gives, checked before it is used: names and paths, the text of tables, sizes of files, values of options."""
