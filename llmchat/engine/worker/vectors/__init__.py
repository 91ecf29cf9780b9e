"""Vectors and scores of texts: what a worker does with an embedding model or a reranker.

Owns a backend of its own (`backend.py`): such a model writes nothing, has no prefixes to keep and
no replies to sample, so none of the loop's machinery runs. Refuses chat models; one that is asked
for vectors says so in a sentence (`answers.py`).
"""
