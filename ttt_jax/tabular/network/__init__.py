"""Networks that read tables: the TabPFN v2 classifier, and the class that runs it as a pure function."""
