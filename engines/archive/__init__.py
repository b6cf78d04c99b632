"""Explaining archives of millions of photos by Ray Data, into Parquet."""
