"""The static plan of a library: arena, tables, folds, and their emission as C."""
