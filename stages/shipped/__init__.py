"""Files that stages.export copies into export/; predict.py is also where training takes its resize rule from."""
