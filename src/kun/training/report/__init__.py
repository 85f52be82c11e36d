"""report.html: a run as a page that needs no other file, in English and Chinese, by day and by night."""
