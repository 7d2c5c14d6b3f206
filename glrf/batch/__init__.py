"""`glrf batch`: an archive of recordings into one Parquet table, on this machine or on Ray."""
