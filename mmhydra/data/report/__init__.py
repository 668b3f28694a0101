"""The data card (Markdown) and the governance report (one HTML page) of a dataset version, from its manifest."""

CARD_NAME = "data_card.md"
REPORT_NAME = "governance.html"
