"""Reading and writing parameters safely, without the frameworks that made them."""
