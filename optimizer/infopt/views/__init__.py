"""Views of the report: the page, Markdown and the console; ``tables`` and ``summary`` decide what they show."""
