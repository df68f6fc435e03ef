# The server in a small image: `docker build -t rowhouse .`
#
# It contains no PostgreSQL. Set DATABASE_URL, or use compose.yaml, which has both.

# ---- build ----
FROM rust:1.95-slim-trixie AS chef
RUN cargo install cargo-chef --locked --version 0.1.78
WORKDIR /build

# The recipe of the dependencies: it changes with the manifest and the lock file, not with the code.
FROM chef AS recipe
COPY . .
RUN cargo chef prepare --bin rowhouse

FROM chef AS build
COPY --from=recipe /build/recipe.json .
# The dependencies alone: this layer is rebuilt only when the recipe changes.
RUN cargo chef cook --release --locked --bin rowhouse
COPY . .
RUN cargo build --release --locked --bin rowhouse

# ---- run ----
FROM debian:trixie-slim
# Certificates, for a database whose TLS certificate a public authority has signed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/rowhouse --create-home rowhouse \
    && chmod 0700 /var/lib/rowhouse
COPY --from=build /build/target/release/rowhouse /usr/local/bin/rowhouse

USER 10001
# The data dir. It holds the root token and the secret key, which the first start generates where none is set. A
# container without a volume here needs ROWHOUSE_SECRET_KEY, since the next one must have the same.
WORKDIR /var/lib/rowhouse
ENV ROWHOUSE_LISTEN=0.0.0.0:8080 \
    ROWHOUSE_DATA_DIR=/var/lib/rowhouse
EXPOSE 8080
# Asks /readyz of the server in this container. The start period leaves time to migrate the control plane.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["rowhouse", "healthcheck"]
ENTRYPOINT ["rowhouse"]
CMD ["serve"]
