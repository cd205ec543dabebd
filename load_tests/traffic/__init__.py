"""What the load tests are made of, apart from locust: profiles, arrivals, requests, checks, counts and the assessment.

Nothing here imports locust, which patches the process that it is imported in.
"""
