"""Views of the report: Markdown and the console; ``tables`` decides what both show."""
