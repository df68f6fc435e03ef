# The server in a small image: `docker build -t rowhouse .`
#
# It brings no PostgreSQL along. Name one in DATABASE_URL, or take compose.yaml, which has both.

# ---- build ----
FROM rust:1.95-slim-trixie AS chef
RUN cargo install cargo-chef --locked --version 0.1.78
WORKDIR /build

# What the dependencies are built from: changes with the manifest and the lock file, not with the code.
FROM chef AS recipe
COPY . .
RUN cargo chef prepare --bin rowhouse

FROM chef AS build
COPY --from=recipe /build/recipe.json .
# The dependencies alone: this layer is built again only when the recipe changes.
RUN cargo chef cook --release --locked --bin rowhouse
COPY . .
RUN cargo build --release --locked --bin rowhouse

# ---- run ----
FROM debian:trixie-slim
# Certificates, for a database or a webhook behind public TLS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/rowhouse --create-home rowhouse \
    && chmod 0700 /var/lib/rowhouse
COPY --from=build /build/target/release/rowhouse /usr/local/bin/rowhouse

USER 10001
# The data folder: holds the root token that the first start makes when none is given.
WORKDIR /var/lib/rowhouse
ENV ROWHOUSE_LISTEN=0.0.0.0:8080 \
    ROWHOUSE_DATA_DIR=/var/lib/rowhouse
EXPOSE 8080
# Asks /readyz of the server in this container. The start period leaves time for public migrations.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["rowhouse", "healthcheck"]
ENTRYPOINT ["rowhouse"]
CMD ["serve"]
