"""The request log: what was asked and answered, row by row, in files of this machine, and on its way elsewhere.

observer --records--> masking --> segments --+--> rows --> command line, Parquet
                                             `--> sinks: CloudEvents, object stores
"""
