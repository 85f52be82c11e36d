"""The web app: Chat, Knowledge and Inside, in English and Chinese, next to the API in one process."""
