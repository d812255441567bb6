"""What the store can do: plain synchronous functions `(transaction, request) -> response`.

They neither begin nor commit, know nothing of threads and event loops, and raise `MetadataError`s.
"""
