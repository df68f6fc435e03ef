# The server in a small image: `docker build -t rowhouse .`
#
# It brings no PostgreSQL along. Name one in DATABASE_URL, or take compose.yaml, which has both.

# ---- build ----
FROM rust:1.95-slim-trixie AS build
WORKDIR /build

# The dependencies alone, with stand-ins for our code: this layer is built again only when one of
# the files copied here changes. Cargo wants a file for each benchmark that the manifest names.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src benches \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && awk '/^\[\[bench\]\]/ { bench = 1 } bench && $1 == "name" { gsub("\"", "", $3); print $3; bench = 0 }' \
        Cargo.toml > benches/names \
    && while read -r name; do echo 'fn main() {}' > "benches/$name.rs"; done < benches/names \
    && cargo build --release --locked --bin rowhouse

COPY README.md ./
COPY public_migrations public_migrations
COPY tenant_migrations tenant_migrations
COPY src src
# Copied files keep their old dates, and Cargo goes by dates: without this it keeps the stand-ins.
RUN touch src/main.rs src/lib.rs build.rs \
    && cargo build --release --locked --bin rowhouse

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
