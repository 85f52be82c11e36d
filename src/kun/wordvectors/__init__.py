"""Word vectors: word2vec and GloVe, trained and loaded; neighbours, analogies, sums and pictures of them."""
