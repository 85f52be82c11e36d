"""The one way text comes out: sampling, a paged cache of keys and values, an engine that batches all callers."""
