"""Making a model do as people want: preferences, reward models, and training by them."""
