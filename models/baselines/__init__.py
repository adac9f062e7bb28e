"""The comparison models of the paper's Tables 7 and 8.

Networks read a batch as a dictionary, as models.classifier.classifier does; estimators have fit / predict_proba. Their names
are in models/catalogue.py.
"""
