"""On-disk data: stores, the frames cube, stage records, the folder claim and product versions."""
