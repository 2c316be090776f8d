"""The dashboard: published products in a browser, on loopback, without a request to anywhere else.

    data    finds datasets and versions below an output folder, opens them once
    curves, fit_curves    product -> lines, points and bands, plain numpy
    canvas  colours, axes and legends of the figures
    views   lines, points and bands -> Bokeh figures
    texts   summary and provenance -> escaped HTML
    explore, pages    the pages of one product
    app, frame    one browser session: choices, pages, following new versions; HTML and colours around them
    serve   the web server

Only `explore`, `pages`, `app` and `serve` know Panel, and nothing here is imported before the verb needs it.
"""
