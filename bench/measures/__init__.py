"""How faithful a map is: what is hidden, and what the classifier says then."""
