"""A small HTTP service: the KServe v2 protocol, and photos in, pictures out."""
