"""People's rankings, demonstrations and thumbs: kept, queued, counted, and turned into data to train on."""
