"""Names on the Hugging Face hub, and what is downloaded of them."""
