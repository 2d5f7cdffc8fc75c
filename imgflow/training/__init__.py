"""How the weights that ship were made. Needs photos and, for text, fonts; see `--help`.

python -m imgflow.training eraser PHOTOS --work FOLDER
python -m imgflow.training origin PHOTOS --work FOLDER
"""
