"""Stored FHIR resources: their versions, who sees which, and search over them in Postgres.

    parameters   the search parameters that there are (R4's own), from parameters.tsv
    values       what a resource has under each of them
    index        the rows that searches look in
    versions     read, history, create, update, delete
    search       a request's parameters to a query, and its results
"""
