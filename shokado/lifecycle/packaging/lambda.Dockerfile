# The image of a function (`shokado lambda image`): AWS's base image, which has the runtime, and what a zip would hold.
# No command runs, so nothing of the building host gets into it, and it is built for another processor as well.
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.13
FROM ${BASE_IMAGE}
COPY task /var/task
WORKDIR /var/task
CMD ["lambda_function.lambda_handler"]
