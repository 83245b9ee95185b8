"""The model hub: fetching, errors in one sentence, no secrets in what is written."""
