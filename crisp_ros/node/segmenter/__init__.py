"""The executable crisp_segmenter: label images from colour and depth."""
