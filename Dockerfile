# The image of `kms`: built from source, shipped as one binary.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG KMS_GIT_COMMIT=
# The caches keep dependencies from build to build; the binary is copied out because a cache is no layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin kms && cp target/release/kms /kms

FROM debian:bookworm-slim
# For clusters whose certificates are signed by a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /kms /usr/local/bin/kms
USER 10001:10001
WORKDIR /tmp
# Metrics and health.
EXPOSE 9401
# No HEALTHCHECK: orchestrators ask :9401/health/live and :9401/health/ready themselves, and there is no shell tool here
# to ask with. A scheduler that is loading is not ready, and must not be restarted for it.
ENTRYPOINT ["kms"]
