"""What each chart of the page shows, as Vega-Lite."""
