"""Tools that a model may call and Kun runs: arithmetic, dates, tables, servers of the Model Context Protocol."""
