"""How well do repeated measurements agree? Intraclass correlations and what follows from them."""
