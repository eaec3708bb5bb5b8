"""The contact sheet, the Markdown summary, the HTML report and the charts of a run. It holds no Prefect code.

Pillow is imported only when a picture is drawn.
"""
