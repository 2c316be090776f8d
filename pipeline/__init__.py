"""From raw runs to the product; runs without Prefect. A notebook wants `import trxas`."""
