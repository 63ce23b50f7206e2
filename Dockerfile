# Usher's image: one for the ingress, the consumers, the lookup and every other verb (`docker run usher --help`).

FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Without pip of its own: the environment is all that leaves this stage.
RUN python -m venv --without-pip /opt/usher
COPY requirements.txt requirements-dev.txt ./
# Before the sources, so that a change of ours does not install the dependencies anew.
RUN pip --python /opt/usher/bin/python install --require-hashes --only-binary :all: -r requirements.txt
# The build backend comes from the lock too. Where it grows a dependency, pip refuses and names it: add it here.
RUN awk '/^[^ #]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } wanted' \
        requirements-dev.txt > backend.txt \
    && python -m venv /opt/backend \
    && /opt/backend/bin/pip install --require-hashes --only-binary :all: -r backend.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY ingress ingress
COPY consumer consumer
COPY lookup lookup
COPY local local
COPY cli cli
COPY migrations migrations
RUN /opt/backend/bin/pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
    && pip --python /opt/usher/bin/python install --no-deps dist/*.whl

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="usher" \
      org.opencontainers.image.description="Turns Clerk webhooks into one database per user and a synced users table" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 usher \
    && useradd --system --uid 10001 --gid usher --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin usher
COPY --from=build /opt/usher /opt/usher
# A container is reached through its network only: it listens on all of its own addresses.
ENV PATH=/opt/usher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    INGRESS_HOST=0.0.0.0 \
    INGRESS_INTERNAL_HOST=0.0.0.0 \
    CONSUMER_INTERNAL_HOST=0.0.0.0 \
    LOOKUP_HOST=0.0.0.0 \
    LOOKUP_INTERNAL_HOST=0.0.0.0
# As a number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["usher"]
CMD ["--help"]
