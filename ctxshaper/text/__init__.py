"""Text: blocks and sentences, languages, tokens. No torch here."""
