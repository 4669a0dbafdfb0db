"""The staff pages, one module a page with its addresses: they translate between HTTP and what is asked or done."""
