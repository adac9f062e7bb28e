"""The comparison models of the paper's Tables 7 and 8.

Networks read a dictionary of a batch as models.classifier.classifier does; estimators share fit / predict_proba. Their names:
models/catalogue.py.
"""
