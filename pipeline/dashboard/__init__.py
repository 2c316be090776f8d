"""The dashboard: published products in a browser, on loopback, without a request to anywhere else.

    data    finds datasets and versions below an output folder, opens them once
    curves, fitted    product -> lines, points and bands, plain numpy
    canvas  colours, axes and legends of the figures
    views   lines, points and bands -> Bokeh figures
    texts   summary and provenance -> escaped HTML
    explore, results    the pages of one product
    app     one browser session: choices, pages, following new versions
    server  the web server

Only `server` and `app` know Panel, and nothing here is imported before the verb needs it.
"""
