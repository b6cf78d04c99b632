"""Where classifiers come from, a module for each kind of name; `load` chooses."""
