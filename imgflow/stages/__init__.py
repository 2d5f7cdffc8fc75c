"""The stages of the line. Each decides, acts and measures, and changes nothing by itself."""
