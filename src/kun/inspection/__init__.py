"""Looking inside: how a text is cut, where positions lie, who looks at whom, what each layer would say next."""
