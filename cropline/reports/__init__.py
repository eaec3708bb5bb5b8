"""What a run shows to people: the contact sheet, the Markdown summary, the HTML report. Pillow is imported when drawing."""
