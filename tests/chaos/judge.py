"""The judge: reads the log in plain SQL, the topics with kafka-python, and folds the log by itself."""
