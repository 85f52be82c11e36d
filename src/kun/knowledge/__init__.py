"""Knowledge bases: documents, cut into passages, embedded, stored; found again, and answered from with citations."""
