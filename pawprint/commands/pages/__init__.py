"""The pages of `pawprint review` and `pawprint serve`: HTML, style and script.

Colours, basic elements and the icon are those of the report, in pawprint/judging.
"""
